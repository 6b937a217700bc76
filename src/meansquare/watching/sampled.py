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
    """At most `most` elements of a tensor, as many apart as goes into none of its rows evenly."""
    flat = (
        t if type(t) in PLAIN and t.dtype in REAL and t.layout == torch.strided else real(dense(t))
    ).reshape(-1)
    count = flat.numel()
    return flat if most is None or count <= most else flat[:: spacing(count, most)]


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
    """Flat tensors one behind the other, as float64, in memory of its own; one transfer."""
    if len({t.device for t in tensors}) > 1:
        tensors = [t.cpu() for t in tensors]
    return torch.cat([*tensors]).cpu().double().numpy()


def dense(t: Tensor) -> Tensor:
    """A tensor with all of its elements in memory."""
    return t if t.layout == torch.strided else t.to_dense()


def nonfinite(t: Tensor) -> int:
    """How many elements of a tensor are NaN or infinite."""
    own = real(dense(t))
    # A sum is finite where its parts are (nearly always), and as fast as reading.
    return 0 if math.isfinite(own.sum()) else int(own.numel() - own.isfinite().sum())
