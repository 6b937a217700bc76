"""The state of a parameter: what it holds, how it is laid out, and whose it is in a state dict."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from meansquare.hyper import Hyper
from meansquare.parts import misplaced, part, placed_like
from meansquare.settings import shown

STATE_DTYPES: dict[torch.dtype, torch.dtype] = {
    torch.float32: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float16: torch.float32,
    torch.float64: torch.float64,
    torch.complex64: torch.complex64,
    torch.complex128: torch.complex128,
}
"""Each dtype a parameter may have, and the dtype of its state."""

MOST_STEPS = 2**53  # float64 counts no further
_PREFIXES = ("_orig_mod", "module", "_fsdp_wrapped_module")  # torch.compile, DDP, FSDP


def parameter_names(i: int, group: Mapping[str, Any]) -> list[str]:
    """What messages call the parameters of group `i`: by name where the group has names."""
    names = group.get("param_names")
    if names and len(names) == len(group["params"]):
        return [f"parameter {name!r}" for name in names]
    return [f"parameter {j} of group {i}" for j in range(len(group["params"]))]


def check_form(state_dict: Any) -> None:
    """Refuse what is no state dict of an optimizer, whichever: states by id, groups that list ids.

    Raises TypeError for what is of another kind, ValueError for what is missing or there twice.
    """
    check_kind(state_dict, Mapping, "a state dict")
    for name, kind in (("state", Mapping), ("param_groups", (list, tuple))):
        if name not in state_dict:
            has = shown(list(state_dict))
            raise ValueError(f"a state dict must have '{name}', got {has}")
        check_kind(state_dict[name], kind, f"'{name}' of a state dict")
    ids: Counter[int | str] = Counter()
    for i, group in enumerate(state_dict["param_groups"]):
        _check_group(group, f"group {i} of the state dict")
        ids.update(group["params"])
    _check_ids(ids, state_dict["state"])


def check_kind(value: Any, kind: Any, what: str) -> None:
    """Raise TypeError unless `value` is of a kind: Mapping, a list or a tuple."""
    if not isinstance(value, kind):
        wanted = "a dict" if kind is Mapping else "a list"
        raise TypeError(f"{what} must be {wanted}, got {shown(value)}")


def _check_group(group: Any, what: str) -> None:
    check_kind(group, Mapping, what)
    if "params" not in group:
        raise ValueError(f"{what} must have 'params', got {shown(list(group))}")
    check_kind(group["params"], (list, tuple), f"'params' of {what}")
    names = group.get("param_names", ["" for _ in group["params"]])
    check_kind(names, (list, tuple), f"'param_names' of {what}")
    if len(names) != len(group["params"]):
        sizes = f"{len(names)} names for {len(group['params'])} parameters"
        raise ValueError(f"{what} has {sizes}")
    for key, kinds in ((group, {str}), (group["params"], {int, str}), (names, {str})):
        strange = [part for part in key if type(part) not in kinds]
        if strange:
            raise TypeError(f"{what} has {shown(strange[0])} for a name or a number")


def _check_ids(ids: Counter[int | str], state: Mapping[Any, Any]) -> None:
    """Every state has one owner; what a user keeps beside them has no number."""
    for key, times in ids.items():
        if times > 1:
            raise ValueError(f"the state dict lists parameter {shown(key)} {times} times")
        check_kind(state.get(key, {}), Mapping, f"the state of parameter {shown(key)}")
    for key in state:
        if type(key) is int and key not in ids:
            raise ValueError(
                f"the state dict has state of a parameter {shown(key)} that is in no group"
            )


def loaded(
    kind: type[Hyper], groups: list[dict], state_dict: Mapping[str, Any]
) -> tuple[defaultdict[Any, Any], list[dict]]:
    """The state and the groups that a state dict gives the parameters of `groups`, all copied.

    Raises ValueError where names are known on both sides and differ, where the groups differ in
    number or size, or where the state of a parameter is not of this kind of optimizer, of another
    shape or impossible; TypeError where something is of another kind.
    """
    check_form(state_dict)
    saved = state_dict["param_groups"]
    if len(saved) != len(groups):
        raise ValueError(
            f"the state dict has {len(saved)} parameter groups, the optimizer {len(groups)}"
        )
    matched = [_in_our_order(i, *pair) for i, pair in enumerate(zip(groups, saved, strict=True))]
    state: defaultdict[Any, Any] = defaultdict(dict, state_dict["state"])
    for i, (ours, theirs) in enumerate(zip(groups, matched, strict=True)):
        owners = parameter_names(i, ours)
        for p, key, owner in zip(ours["params"], theirs["params"], owners, strict=True):
            if key in state_dict["state"]:
                state.pop(key, None)
                state[p] = _restored(kind, p, state_dict["state"][key], owner)
        theirs["params"] = ours["params"]
    return state, matched


def _in_our_order(i: int, ours: dict, saved: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a saved group whose parameters stand in the order of ours, by name where it can."""
    if len(saved["params"]) != len(ours["params"]):
        raise ValueError(
            f"group {i} of the state dict has {len(saved['params'])} parameters, "
            f"the optimizer's has {len(ours['params'])}"
        )
    settings = {name: value for name, value in saved.items() if name != "params"}
    try:
        matched = deepcopy(settings)
    except (RuntimeError, TypeError, ValueError) as error:  # nested too deeply, or never copied
        raise ValueError(f"group {i} of the state dict cannot be copied") from error
    matched["params"] = list(saved["params"])
    if "param_names" not in ours:
        return matched
    matched["param_names"] = list(ours["param_names"])
    if "param_names" in saved:
        order = _order(i, matched["param_names"], list(saved["param_names"]))
        matched["params"] = [saved["params"][place] for place in order]
    return matched


def _order(i: int, ours: list[str], saved: list[str]) -> list[int]:
    """Where each of our names stands among the saved ones."""
    if set(ours) != set(saved):  # wrappers may have been put on or taken off in between
        ours, saved = [_plain(name) for name in ours], [_plain(name) for name in saved]
    places = {name: place for place, name in enumerate(saved)}
    for name in ours:
        if name not in places:
            others = ", ".join(repr(other) for other in places if other not in ours)
            raise ValueError(
                f"group {i} of the state dict has no parameter {name!r}; "
                f"it has {others or 'no other'} instead"
            )
    if len(places) < len(saved):
        name = Counter(saved).most_common(1)[0][0]
        raise ValueError(f"group {i} has two parameters named {name!r}; rename one")
    return [places[name] for name in ours]


def _plain(name: str) -> str:
    """A parameter's name without the parts that wrappers put in."""
    return ".".join(part for part in name.split(".") if part not in _PREFIXES)


def _restored(
    kind: type[Hyper], p: Tensor, values: Mapping[str, Any], owner: str
) -> dict[str, Any]:
    """A copy of a parameter's saved state in the dtypes and the layout that `p` needs."""
    names = ("step", *kind.STATE)
    values = {name: value for name, value in values.items() if value is not None}
    foreign = [name for name in values if name not in names]
    lacks = [name for name in kind.NEEDED if name not in values]
    if foreign or (values and lacks):
        what = f"unknown {shown(foreign[0])}" if foreign else f"no '{lacks[0]}'"
        raise ValueError(
            f"the state of {owner} has {what}; "
            f"it must hold {', '.join(names)}, as the one of torch.optim does"
        )
    check_state(kind, p, values, owner)
    like = torch.empty_like(p, dtype=STATE_DTYPES.get(p.dtype, p.dtype), requires_grad=False)
    copies = {
        name: _copied(like, value, f"state '{name}' of {owner}")
        for name, value in values.items()
        if name != "step"
    }
    for name in kind.SQUARES:
        if name in copies:
            _check_not_negative(name, copies[name], owner)
    if kind.STEP_IS_OF_BUFFERS and copies:
        values = {"step": 1.0} | values
    return ({"step": _count(values["step"])} if "step" in values else {}) | copies


def _copied(like: Tensor, value: Tensor, what: str) -> Tensor:
    copy = torch.empty_like(like)
    try:
        placed = placed_like(like, value) if misplaced(like, value) else value
    except TypeError as error:
        raise TypeError(f"{what} {error}") from error
    try:  # detach() returns a subclass where there is one
        part(copy).copy_(part(placed.detach()))
    except RuntimeError as error:
        got = f"{value.dtype} on {value.device}"
        raise TypeError(f"{what} cannot be copied from {got}") from error
    return copy


def _check_not_negative(name: str, value: Tensor, owner: str) -> None:
    own = part(value)
    real = torch.view_as_real(own) if own.is_complex() else own
    if not value.is_meta and (real < 0).any():
        raise ValueError(
            f"state '{name}' of {owner} must not be negative, got {real.min().item()}; "
            "the checkpoint is damaged or of another optimizer"
        )


def check_state(kind: type[Hyper], p: Tensor, values: Mapping[str, Any], owner: str) -> None:
    """Refuse state that cannot be that of `p`.

    Raises TypeError for what is no dense tensor of its kind, ValueError for another shape.
    """
    if "step" in values:
        step_count(values["step"], owner)
    for name in kind.STATE:
        if name in values:
            _check_buffer(p, values[name], f"state '{name}' of {owner}")


def step_count(step: Any, owner: str) -> float:
    """The number of steps that a state tells. Raises TypeError for what is no count."""
    try:
        count = step.item() if isinstance(step, Tensor) and step.numel() == 1 else step
    except RuntimeError:  # of a tensor without values
        count = step
    whole = isinstance(count, (int, float)) and 0 <= count <= MOST_STEPS and count == int(count)
    if not whole:
        raise TypeError(f"state 'step' of {owner} must be a count, got {shown(count)}")
    return float(count)


def _check_buffer(p: Tensor, value: Any, what: str) -> None:
    dense = isinstance(value, Tensor) and value.layout == torch.strided and not value.is_nested
    if not dense or (value.is_meta and not p.is_meta):
        got = value.layout if isinstance(value, Tensor) and not dense else shown(value)
        raise TypeError(f"{what} must be a dense tensor, got {got}")
    if value.shape != p.shape:
        shapes = f"{tuple(p.shape)}, got {tuple(value.shape)}"
        raise ValueError(f"{what} must have its shape {shapes}")
    if value.dtype.is_complex != p.is_complex() or not (
        p.is_complex() or value.is_floating_point()
    ):
        raise TypeError(f"{what} must be of a dtype to go with {p.dtype}, got {value.dtype}")


def lacking(p: Tensor, state: Mapping[str, Any], hyper: Hyper) -> dict[str, Any]:
    """What the state of `p` needs for a step and does not have, or not laid out like `p`."""
    step, new = state.get("step", 0.0), {}
    buffers = hyper.rule.buffers
    if hyper.STEP_IS_OF_BUFFERS and any(name not in state for name in buffers):
        step = 0.0
    if not isinstance(step, Tensor) or not _is_count(step):
        new["step"] = _count(step)
    like = torch.empty_like(p, dtype=STATE_DTYPES[p.dtype], requires_grad=False)
    for name in buffers:
        if name not in state:
            new[name] = _full(like, name, hyper.first(name))
        elif (same := laid_out_like(like, state[name])) is not state[name]:
            new[name] = same
    return new


def _full(like: Tensor, name: str, first: float) -> Tensor:
    """A buffer that holds its first value everywhere, in both parts of a complex number."""
    try:
        return torch.full_like(like, complex(first, first) if like.is_complex() else first)
    except RuntimeError as error:
        what = f"'{name}' cannot begin at {first!r} in {like.dtype}"
        raise ValueError(f"{what}; make the setting that says so smaller") from error


def _is_count(step: Tensor) -> bool:
    """Whether it is a count as `_count` makes them, which a step can raise."""
    kind = (step.dtype, step.device.type, step.dim(), step.is_inference())
    return kind == (torch.float64, "cpu", 0, False)


def _count(step: Any) -> Tensor:
    # float64 counts on past 2**24 steps, where float32 stands still.
    return torch.tensor(float(step), dtype=torch.float64)


def laid_out_like(like: Tensor, value: Tensor) -> Tensor:
    """`value` with the dtype, device and layout (in memory, over ranks) of `like`; itself where it
    has them.
    """
    if misplaced(like, value):
        value = placed_like(like, value)
    same = (value.dtype, value.device, value.stride()) == (like.dtype, like.device, like.stride())
    other = value.is_conj() or value.is_neg() or value.is_inference()
    return value if same and not other else torch.empty_like(like).copy_(value)
