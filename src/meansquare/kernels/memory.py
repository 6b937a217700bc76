"""Where the tensors of a step lie in memory, and which of them lie in the same."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from meansquare.parts import part

Span = tuple[int, int]  # from where to where in memory


def meet(some: set[Span], others: set[Span]) -> bool:
    return any(a[0] < b[1] and b[0] < a[1] for a in some for b in others)


def merged(spans: set[Span]) -> list[Span]:
    """The same memory in rising order, none of it twice."""
    merged: list[Span] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            begin, end = merged[-1][0], max(merged.pop()[1], end)
        merged.append((begin, end))
    return merged


def storages(held: Iterable[Any]) -> set[Span]:
    """From where to where the storages of tensors lie, among what is held, on this rank."""
    tensors = [part(t) for t in held if isinstance(t, Tensor)]
    try:
        storages = [t.untyped_storage() for t in tensors if t.device.type == "cpu"]
        return {(s.data_ptr(), s.data_ptr() + s.nbytes()) for s in storages if s.nbytes()}
    except RuntimeError:  # of a subclass without storage
        return set()
