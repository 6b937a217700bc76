"""The state of a parameter: what it holds, how it is laid out, and whose it is in a state dict."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from meansquare.spec import Hyper

STATE_DTYPES: dict[torch.dtype, torch.dtype] = {
    torch.float32: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float16: torch.float32,
    torch.float64: torch.float64,
    torch.complex64: torch.complex64,
    torch.complex128: torch.complex128,
}
"""Each dtype a parameter may have, and the dtype of its state."""

STATE_NAMES = ("step", "square_avg", "grad_avg", "momentum_buffer")
_PREFIXES = ("_orig_mod.", "module.", "_fsdp_wrapped_module.")  # torch.compile, DDP, FSDP


def matched_by_name(groups: list[dict], state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """The state dict with its parameters in the order of `groups`, found by name where it can be.

    Raises ValueError where names are known on both sides and differ, where the groups differ in
    number or size, or where the state of a parameter is not RMSProp's.
    """
    saved = state_dict["param_groups"]
    if len(saved) != len(groups):
        raise ValueError(
            f"RMSProp: the state dict has {len(saved)} parameter groups, the optimizer {len(groups)}"
        )
    for owner, values in state_dict["state"].items():
        check_names(owner, values)
    matched = [_in_our_order(i, *pair) for i, pair in enumerate(zip(groups, saved, strict=True))]
    return {**state_dict, "param_groups": matched}


def check_names(owner: Any, values: Mapping[str, Any]) -> None:
    """Refuse the state of another optimizer."""
    foreign = [name for name in values if name not in STATE_NAMES]
    if foreign or (values and "square_avg" not in values):
        what = f"unknown '{foreign[0]}'" if foreign else "no 'square_avg'"
        raise ValueError(
            f"RMSProp: the state of parameter {owner} has {what}; "
            f"it must hold {', '.join(STATE_NAMES)}, as torch.optim.RMSprop's does"
        )


def _in_our_order(i: int, ours: dict, saved: Mapping[str, Any]) -> dict[str, Any]:
    if len(saved["params"]) != len(ours["params"]):
        raise ValueError(
            f"RMSProp: group {i} of the state dict has {len(saved['params'])} parameters, "
            f"the optimizer's has {len(ours['params'])}"
        )
    if "param_names" not in saved or "param_names" not in ours:
        return dict(saved)
    theirs = {_plain(name): key for name, key in zip(saved["param_names"], saved["params"], strict=True)}
    names = [_plain(name) for name in ours["param_names"]]
    for missing in (name for name in names if name not in theirs):
        raise ValueError(
            f"RMSProp: group {i} of the state dict has no parameter '{missing}'; "
            f"it has {', '.join(sorted(set(theirs) - set(names)))} instead"
        )
    order = [theirs[name] for name in names]
    return {**saved, "params": order, "param_names": list(ours["param_names"])}


def _plain(name: str) -> str:
    """A parameter's name without what wrappers put before its parts."""
    for prefix in _PREFIXES:
        name = name.replace(prefix, "")
    return name


def restored(p: Tensor, value: Tensor, key: str) -> Tensor:
    """A copy of a state tensor in the dtype, on the device and in the layout that `p` needs."""
    if key == "step":
        return torch.tensor(float(value), dtype=torch.float64)
    if value.shape != p.shape:
        raise ValueError(
            f"RMSProp: state '{key}' has the shape {tuple(value.shape)}, "
            f"its parameter {tuple(p.shape)}"
        )
    like = torch.empty_like(p, dtype=STATE_DTYPES.get(p.dtype, p.dtype), requires_grad=False)
    return laid_out_like(like, value).clone(memory_format=torch.preserve_format)


def fill_state(p: Tensor, state: dict[str, Any], hyper: Hyper) -> None:
    """Add the state that the hyper-parameters ask for, and lay what is there out like `p`."""
    step = state.get("step", 0.0)
    # float64 counts on past 2**24 steps, where float32 stands still.
    if not isinstance(step, Tensor) or step.dtype != torch.float64 or step.device.type != "cpu":
        state["step"] = torch.tensor(float(step), dtype=torch.float64)
    like = torch.empty_like(p, dtype=STATE_DTYPES[p.dtype], requires_grad=False)
    for name in hyper.spec.buffers:
        if name in state:
            state[name] = laid_out_like(like, state[name])
        else:
            state[name] = torch.zeros_like(like)
            if name == "square_avg" and hyper.initial_square_avg:
                real = torch.view_as_real(state[name]) if p.is_complex() else state[name]
                real.fill_(hyper.initial_square_avg)


def laid_out_like(like: Tensor, value: Tensor) -> Tensor:
    """`value` with the dtype, device and memory layout of `like`; itself where it has them."""
    same = (value.dtype, value.device, value.stride()) == (like.dtype, like.device, like.stride())
    return value if same else torch.empty_like(like).copy_(value)
