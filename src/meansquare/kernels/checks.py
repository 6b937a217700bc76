"""What no kernel can step is refused by name before anything is written."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from meansquare.hyper import Hyper
from meansquare.parts import misplaced
from meansquare.state import STATE_DTYPES, check_state

_PLAIN = getattr(Tensor, "__torch_dispatch__", None)
_FUNCTIONS = (Tensor.__torch_function__.__func__, torch.nn.Parameter.__torch_function__)


def check_tensors(
    kind: type[Hyper],
    p: Tensor,
    gradient: Tensor,
    state: Mapping[str, Any],
    name: str,
    differentiable: bool,
) -> None:
    """Refuse a parameter with a gradient, or a gradient or state, that no kernel can step.

    Raises TypeError for a dtype or layout, ValueError for a shape, overlapping elements or missing
    memory, RuntimeError for a leaf that autograd does not let anyone write.
    """
    _check_parameter(p, name)
    _check_gradient(p, gradient, name)
    check_state(kind, p, state, name)
    _check_memory(p, name)
    _check_memory(gradient, f"the gradient of {name}")
    for key, value in state.items():
        if isinstance(value, Tensor):
            _check_memory(value, f"state '{key}' of {name}")
    if differentiable and p.is_leaf and p.requires_grad:
        raise RuntimeError(
            f"differentiable=True cannot write a leaf that requires a gradient, "
            f"got {name}; optimize its clone()"
        )


def _check_parameter(p: Tensor, name: str) -> None:
    if p.dtype not in STATE_DTYPES:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in STATE_DTYPES)
        raise TypeError(f"dtype must be one of {names}, got {p.dtype} in {name}")
    if p.layout != torch.strided:
        raise TypeError(f"{name} must be dense, got {p.layout}; optimize its values")
    if p.is_meta:
        raise ValueError(
            f"{name} is on the meta device and has no values; "
            "give its module some with to_empty() before it is stepped"
        )
    if p.is_inference() and not torch.is_inference_mode_enabled():
        raise RuntimeError(
            f"{name} is an inference tensor, which torch lets nobody write outside "
            "torch.inference_mode(); optimize its clone()"
        )
    if _overlaps_itself(p):
        raise ValueError(
            f"{name} is expanded or overlaps itself: several of its elements are one in "
            "memory; optimize the tensor that it is a view of"
        )


def _check_gradient(p: Tensor, gradient: Tensor, name: str) -> None:
    if gradient.layout != torch.strided:
        raise TypeError(
            f"sparse gradients are not supported, got {gradient.layout} in {name}; "
            "use a dense gradient (for nn.Embedding, sparse=False)"
        )
    if gradient.dtype not in STATE_DTYPES or gradient.is_complex() != p.is_complex():
        raise TypeError(
            f"got a gradient of {gradient.dtype} for {p.dtype} in {name}; cast it to {p.dtype}"
        )
    if gradient.device != p.device:
        raise ValueError(
            f"got a gradient on {gradient.device} for {name} on {p.device}; "
            "set it to None where the parameter was moved"
        )
    if reason := misplaced(p, gradient):
        raise ValueError(f"the gradient of {name} {reason}; distribute it as the parameter is")
    if gradient.shape != p.shape:
        raise ValueError(
            f"got a gradient of shape {tuple(gradient.shape)} for {tuple(p.shape)} "
            f"in {name}; set it to None where the parameter was replaced"
        )


def _overlaps_itself(t: Tensor) -> bool:
    reach, dims = 0, sorted((s, n) for s, n in zip(t.stride(), t.shape, strict=True) if n > 1)
    if any(stride == 0 for stride, _ in dims):
        return True
    for stride, size in dims:
        if stride <= reach:
            return _offsets(dims).unique().numel() < t.numel()
        reach += (size - 1) * stride
    return False


def _offsets(dims: list[tuple[int, int]]) -> Tensor:
    """The place of each element in memory."""
    offsets = torch.zeros(1, dtype=torch.int64)
    for stride, size in dims:
        offsets = (offsets[:, None] + stride * torch.arange(size)).flatten()
    return offsets


def _check_memory(t: Tensor, what: str) -> None:
    """Refuse a tensor whose storage was freed or cut under it; torch would write past its end."""
    wraps = getattr(type(t), "__torch_dispatch__", None) is not _PLAIN  # others, in their memory
    if wraps or not t.numel():
        return
    last = sum((size - 1) * stride for size, stride in zip(t.shape, t.stride(), strict=True))
    needed = (t.storage_offset() + last + 1) * t.element_size()
    if t.untyped_storage().nbytes() < needed:
        raise ValueError(
            f"{what} has lost its memory: {t.untyped_storage().nbytes()} bytes of storage "
            f"where {needed} are needed; was it freed with resize_()?"
        )


def runs_foreign_code(p: Tensor, gradient: Tensor, hyper: Hyper) -> bool:
    """Whether code that is neither torch's nor ours takes part in a step by torch operations."""
    return hyper.rule.key.startswith("own_") or _has_hooks(type(p)) or _has_hooks(type(gradient))


def _has_hooks(kind: Any) -> bool:
    """Whether a subclass of Tensor sees torch's operations before torch does."""
    function = getattr(kind.__torch_function__, "__func__", kind.__torch_function__)
    return function not in _FUNCTIONS or getattr(kind, "__torch_dispatch__", None) is not _PLAIN
