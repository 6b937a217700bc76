"""Formats of elements in memory: what the kernels compute in, and how they round to less."""

import torch
from torch import Tensor

from meansquare.hyper import Precision
from meansquare.parts import Part

_WORD = 0xFFFFFFFF
_LONG = 0xFFFFFFFFFFFFFFFF


def precision_of(p: Tensor) -> Precision:
    return "float64" if p.dtype in (torch.float64, torch.complex128) else "float32"


def mix(x: int) -> int:
    """The finalizer of splitmix64 (Steele, Lea & Flood 2014)."""
    x = (x + 0x9E3779B97F4A7C15) & _LONG
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _LONG
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _LONG
    return x ^ (x >> 31)


def dice_key(seed: int, ordinal: int, step: int) -> int:
    """Key of the random bits of parameter number `ordinal` in step `step`."""
    return mix(mix(mix(seed) ^ ordinal) ^ step)


def random_bits(like: Tensor, key: int, place: Part | None = None) -> Tensor:
    """16 random bits (int64) for each element of `like`, numbered in its order in memory, or in
    that of the whole tensor of which it is a part.
    """
    index = torch.empty_like(like, dtype=torch.int64)
    index.as_strided((index.numel(),), (1,)).copy_(torch.arange(index.numel()))
    index = place.numbers(index) if place else index
    count = place.whole if place else index.numel()
    pages = [mix(key ^ page) & _WORD for page in range((count >> 32) + 1)]
    x = (index & _WORD) ^ torch.tensor(pages, device=like.device)[index >> 32]
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & _WORD  # lowbias32 (Wellons 2018)
    x = ((x ^ (x >> 15)) * 0x846CA68B) & _WORD
    return (x ^ (x >> 16)) & 0xFFFF


def round_stochastically(x: Tensor, dtype: torch.dtype, random: Tensor) -> Tensor:
    """float32 `x` as bfloat16 or float16, up with a probability equal to the way it has come.

    The mean of many roundings is x, so that updates far below the last digit still add up
    (Gupta et al. 2015, arXiv:1502.02551). Values exact in `dtype` stay as they are.
    """
    bits = x.contiguous().view(torch.int32).view(x.shape).to(torch.int64) & _WORD
    if dtype == torch.bfloat16:
        rounded = ((bits + random) & _WORD) >> 16
        return _from_bits(rounded, dtype).where(~x.isnan(), x.to(dtype))
    size = bits & 0x7FFFFFFF
    normal = ((size + (random >> 3)) >> 13) - (112 << 10)
    small = x.abs().where(size < 0x38800000, 0)
    tiny = ((small.double() * 2.0**40).to(torch.int64) + random) >> 16
    kept = tiny.where(size < 0x38800000, normal)
    half = _from_bits(((bits >> 16) & 0x8000) | kept, dtype)
    return half.where(size < 0x477FE000, x.to(dtype))


def _from_bits(bits: Tensor, dtype: torch.dtype) -> Tensor:
    signed = torch.where(bits > 0x7FFF, bits - 0x10000, bits)
    return signed.to(torch.int16).view(dtype)
