"""The exact answer: rules.py run by NumPy, element by element as the C++ kernels must do it."""

import numpy as np

from meansquare.hyper import Hyper
from meansquare.spec import Spec


def options_of(spec: Spec) -> dict:
    """The arguments of RMSProp that ask for this Spec."""
    return {
        "eps_place": spec.eps_place,
        "centered": spec.centered,
        "momentum": 0.0 if spec.momentum == "none" else 0.9,
        "nesterov": spec.momentum == "nesterov",
        "lr_in_momentum": spec.lr_in_momentum,
    }


def step(hyper: Hyper, t: int, p, g, *buffers, **runtime) -> list[np.ndarray]:
    """Parameter and buffers after one step on float32 or float64 arrays."""
    h = hyper.at(float(t), p.dtype.name, **runtime)
    with np.errstate(all="ignore"):
        out = hyper.rule.update(h, p, g, *buffers)
    out = out if isinstance(out, tuple) else (out,)
    return [x if isinstance(x, np.ndarray) else np.full_like(p, x) for x in out]


def mix(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


def random_bits(n: int, seed: int, ordinal: int, t: int) -> np.ndarray:
    page = mix(mix(mix(mix(seed) ^ ordinal) ^ t))
    x = np.arange(n, dtype=np.uint32) ^ np.uint32(page % 2**32)
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return (x ^ (x >> np.uint32(16))) & np.uint32(0xFFFF)


def to_bfloat16(x: np.ndarray, random: np.ndarray) -> np.ndarray:
    """float32 rounded stochastically, as the float32 value of the bfloat16."""
    bits = x.view(np.uint32)
    rounded = ((bits + random) >> np.uint32(16) << np.uint32(16)).view(np.float32)
    return np.where(np.isnan(x), x, rounded)


def to_float16(x: np.ndarray, random: np.ndarray) -> np.ndarray:
    """float32 rounded stochastically, by exact arithmetic on the distance to the neighbours."""
    size = np.abs(x.astype(np.float64))
    exponent = np.maximum(np.floor(np.log2(np.maximum(size, 2.0**-30))), -14)
    ulp = 2.0 ** (exponent - 10)
    # Normal numbers have 13 bits below the kept ones, so that 13 of the 16 random bits count.
    normal = np.floor(random / 8) / 2**13
    chance = np.where(size < 2.0**-14, random / 2**16, normal)
    below = np.floor(size / ulp)
    share = size / ulp - below
    share = np.where(size < 2.0**-14, np.floor(share * 2**16) / 2**16, share)
    rounded = (below + (share + chance >= 1)) * ulp
    rounded = np.where(size >= 65504, np.where(size >= 65520, np.inf, 65504.0), rounded)
    return np.where(np.isnan(x), x, np.copysign(rounded, x)).astype(np.float16)
