"""Tensors that lie on several ranks (DTensor): the part on this one, and its place in the whole."""

import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def is_distributed(t: Any) -> bool:
    """Whether it is a DTensor. There is none before torch's module of them is imported."""
    module = sys.modules.get("torch.distributed.tensor")
    kind = getattr(module, "DTensor", None)  # which another thread may be importing
    return kind is not None and isinstance(t, kind)


def part(t: Tensor) -> Tensor:
    """What this rank has of a tensor, in the same memory; all of it where it is not distributed."""
    if not is_distributed(t):
        return t
    with torch.no_grad():
        own = t.to_local()  # type: ignore[attr-defined]
    return own.wait() if type(own).__name__ == "AsyncCollectiveTensor" else own


def as_placed(p: Any, gradient: Any) -> Tensor | None:
    """A gradient placed over the ranks as its parameter is.

    Tensor parallelism leaves some as sums that are yet to be taken.
    """
    if gradient is None or not is_distributed(p) or not misplaced(p, gradient):
        return gradient
    if not is_distributed(gradient):
        return placed_like(p, gradient) if gradient.shape == p.shape else gradient
    if gradient.device_mesh != p.device_mesh:
        return gradient
    return gradient.redistribute(placements=p.placements)


def misplaced(p: Any, t: Any) -> str:
    """How a gradient or a state is distributed otherwise than its parameter; empty if it is not."""
    ours, theirs = is_distributed(p), is_distributed(t)
    if ours != theirs:
        return f"is {'not ' if ours else ''}a DTensor, as the parameter is{'' if ours else ' not'}"
    if ours and (p.device_mesh, p.placements) != (t.device_mesh, t.placements):
        return f"is placed {t.placements} and the parameter {p.placements}"
    return ""


def placed_like(like: Any, t: Any) -> Tensor:
    """A tensor that is whole on every rank, or placed otherwise, as `like` is placed.

    Raises TypeError where that would take what this rank has not.
    """
    if is_distributed(like) and is_distributed(t) and like.device_mesh == t.device_mesh:
        return t.redistribute(placements=like.placements)
    if is_distributed(t):
        where = "another mesh" if is_distributed(like) else "several ranks"
        raise TypeError(
            f"lies on {where}; gather it with full_tensor(), or load it through "
            "torch.distributed.checkpoint"
        )
    sizes, offsets = _own_range(like)
    placed = torch.empty_like(like, dtype=t.dtype)
    own = tuple(slice(o, o + n) for o, n in zip(offsets, sizes, strict=True))
    if part(placed).numel():
        part(placed).copy_(t[own])
    return placed


def _own_range(p: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The sizes of this rank's part, and where it begins in each dimension."""
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    sizes, offsets = compute_local_shape_and_global_offset(p.shape, p.device_mesh, p.placements)
    none = (0,) * p.dim()  # where this rank is not in the mesh
    return (tuple(sizes), tuple(offsets)) if len(offsets) == p.dim() else (none, none)


@dataclass(frozen=True)
class Part:
    """Where a part lies in the whole: sizes and strides (in the whole) of its dimensions, from the
    slowest in memory to the fastest, and the number of its first element.
    """

    whole: int
    first: int
    levels: tuple[tuple[int, int], ...]

    def numbers(self, elements: Tensor) -> Tensor:
        """The numbers in the whole of the part's elements, which are numbered as they lie."""
        number, rest = torch.full_like(elements, self.first), elements
        for size, stride in reversed(self.levels):
            number += rest % size * stride
            rest = rest // size
        return number


def place_of(p: Any) -> Part | None:
    """Where this rank's part of a tensor lies; None where it is not distributed."""
    if not is_distributed(p):
        return None
    (sizes, offsets), strides = _own_range(p), p.stride()
    first = sum(o * s for o, s in zip(offsets, strides, strict=True))
    here = part(p).stride()  # which may have another order
    slowest_first = sorted(range(len(here)), key=lambda d: -here[d])
    levels = _joined([(sizes[d], strides[d]) for d in slowest_first if sizes[d] != 1])
    return Part(p.numel() * (2 if p.is_complex() else 1), first, levels or ((1, 1),))


def _joined(levels: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Levels that follow each other without a gap become one."""
    joined: list[tuple[int, int]] = []
    for size, stride in levels:
        if joined and joined[-1][1] == size * stride:
            joined[-1] = (joined[-1][0] * size, stride)
        else:
            joined.append((size, stride))
    return tuple(joined)
