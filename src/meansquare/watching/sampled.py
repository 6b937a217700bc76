"""Weights of a tensor, evenly spread over it, as arrays; and what of it is not finite."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from meansquare.watching.divisor import real

PLAIN = (Tensor, Parameter)
REAL = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def picked(t: Tensor, most: int | None) -> Tensor:
    """At most `most` elements of a tensor, as many apart as goes into none of its rows evenly; the
    tensor itself, in its form, where these are all of it.
    """
    if type(t) not in PLAIN or t.dtype not in REAL or t.layout != torch.strided:
        t = real(dense(t))
    count = t.numel()
    return t if most is None or count <= most else t.reshape(-1)[:: spacing(count, most)]


def spacing(count: int, most: int) -> int:
    """How far apart elements are picked; it has no divisor in common with `count`, so that no
    column of a matrix is left out.

    >>> spacing(1024 * 1024, 16384), spacing(100, 100)
    (65, 1)
    """
    apart = -(-count // most)
    while apart > 1 and math.gcd(apart, count) > 1:
        apart += 1
    return apart


def joined(tensors: Sequence[Tensor]) -> np.ndarray:
    """Tensors one behind the other, flat, as float64, in memory of its own; one transfer."""
    if len({t.device for t in tensors}) > 1:
        tensors = [t.cpu() for t in tensors]
    elif not tensors[0].is_cpu:
        tensors = [torch.cat([t.reshape(-1) for t in tensors]).cpu()]
    # By NumPy: torch would wake its threads, which take longer than all of this.
    arrays = [_array(t).reshape(-1) for t in tensors]
    return np.concatenate(arrays, dtype=np.float64, casting="same_kind")


def copies(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """Flat copies of tensors; on a GPU by one call, since it takes longer to ask for one than to
    make it.
    """
    if len({(t.device, t.dtype) for t in tensors}) == 1 and not tensors[0].is_cpu:
        whole = torch.cat([t.reshape(-1) for t in tensors])
        return whole.split([t.numel() for t in tensors])
    return [t.clone().reshape(-1) for t in tensors]


def _array(t: Tensor) -> np.ndarray:
    own = t.detach().resolve_neg()
    return (own if own.dtype in (torch.float32, torch.float64) else own.float()).numpy()


def dense(t: Tensor) -> Tensor:
    """A tensor with all of its elements in memory."""
    return t if t.layout == torch.strided else t.to_dense()


def nonfinite(tensors: Sequence[Tensor]) -> list[int]:
    """How many elements of each tensor are NaN or infinite."""
    own = [real(dense(t)) for t in tensors]
    counts = [0] * len(own)
    some = [i for i, t in enumerate(own) if t.numel()]
    if some:
        # The largest is finite where all are (nearly always): one transfer from a GPU for all.
        largest = torch._foreach_norm(  # pyright: ignore[reportPrivateImportUsage]
            [own[i] for i in some], math.inf
        )
        for i, is_fine in zip(some, np.isfinite(joined(largest)), strict=True):
            counts[i] = 0 if is_fine else int(own[i].numel() - own[i].isfinite().sum())
    return counts
