"""What a trial draws: settings, and tensors of any dtype, layout and content."""

import numpy as np
import torch
from members import MEMBERS
from torch import Tensor, nn

from meansquare import SGD, AdaGrad, Adam, RMSProp, Rprop, SignSGD

Random = np.random.Generator
KINDS = (RMSProp, RMSProp, RMSProp, SGD, AdaGrad, Adam, Rprop, SignSGD)
REALS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
DTYPES = (*REALS, torch.complex64, torch.complex128)
NUMBERS = {
    "lr": (0.0, 1e-8, 1e-3, 0.1, 1, 1e3),
    "alpha": (0.0, 0.3, 0.9, 0.99, 0.999, 1 - 2**-53),
    "eps": (0.0, 1e-300, 1e-38, 1e-8, 1e-2, 1.0, 1e3),
    "weight_decay": (0.0, 0.0, 1e-4, 0.1, 10),
    "weight_decay_mode": ("l2", "decoupled", "corrected"),
    "maximize": (False, True),
    "bias_correction": (False, True),
    "initial_square_avg": (0.0, 1.0, 1e-3),
    "seed": (0, 1, 2**63),
    "clip_value": (None, None, 1.0, 1e-6),
    "dampening": (0.0, 0.5, -1.0),
    "lr_decay": (0.0, 1e-3, 10),
    "initial_accumulator_value": (0.0, 0.1),
    "betas": ((0.9, 0.999), (0.0, 0.0), (0.5, 1 - 2**-53), (0.99, 0.1)),
    "decoupled_weight_decay": (False, True),
    "etas": ((0.5, 1.2), (0.1, 3.0)),
    "step_sizes": ((1e-6, 50.0), (0.0, 1e30)),
}


def pick(random: Random, choices):
    return choices[random.integers(len(choices))]


def settings(random: Random, kind: type) -> dict:
    """Of the rules of one optimizer, any, with any numbers that it takes."""
    member = pick(random, [member for member in MEMBERS if member.kind is kind])
    known = kind._kind.names()
    numbers = {name: pick(random, values) for name, values in NUMBERS.items() if name in known}
    momentum = pick(random, (0.5, 0.9, 0.999, 1))
    off = {"momentum": 0.0, "nesterov": False, "amsgrad": False}
    options = {name: value for name, value in off.items() if name in known}
    options |= numbers | member.options
    options |= {"momentum": momentum} if options.get("momentum") else {}
    return options | (
        {"dampening": 0.0} if options.get("nesterov") and "dampening" in known else {}
    )


def numbers(random: Random, n: int) -> np.ndarray:
    """Elements tame or wild: of one size, over eighty decades, or none that a user wishes for."""
    x = random.standard_normal(n) * 10.0 ** pick(random, (0, 0, 0, -4, -12, -19, 5))
    if random.random() < 0.3:
        x *= 10.0 ** random.integers(-45, 39, n)
    odd = (0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 1e-38, 3e38, 2.0**-63, 5e-324, 1e300)
    share = pick(random, (0.0, 0.0, 0.02, 1.0))
    return np.where(random.random(n) < share, random.choice(odd, n), x)


def shape(random: Random) -> tuple[int, ...]:
    if random.random() < 0.02:  # enough for a step to use several threads
        return tuple(int(n) for n in random.integers(270, 500, 2))
    return tuple(int(n) for n in random.choice((0, 1, 2, 3, 5, 8, 17, 33), random.integers(4)))


def laid_out(random: Random, size: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Zeros of a shape, with any order of dimensions, gaps and start."""
    order = random.permutation(len(size))
    gaps = random.choice((1, 1, 1, 2), len(size))
    wide = [size[d] * gaps[d] for d in order]
    start = int(random.integers(2))
    memory = torch.zeros(start + int(np.prod(wide, dtype=int)), dtype=dtype)[start:].view(wide)
    back = memory.permute(*np.argsort(order).tolist()) if size else memory
    return back[tuple(slice(None, None, int(gap)) for gap in gaps)] if size else back


def fill(random: Random, t: Tensor) -> Tensor:
    real = torch.view_as_real(t) if t.is_complex() else t
    real.copy_(torch.from_numpy(numbers(random, real.numel())).view(real.shape))
    return t


def parameter(random: Random) -> nn.Parameter:
    return nn.Parameter(fill(random, laid_out(random, shape(random), pick(random, DTYPES))))


def gradient(random: Random, p: Tensor) -> Tensor:
    """Of any dtype and layout that goes with the parameter, expanded and aliased ones too."""
    kinds = [d for d in DTYPES if d.is_complex == p.is_complex()]
    dtype = p.dtype if random.random() < 0.7 else pick(random, kinds)
    alone = p.is_contiguous() and p.untyped_storage().nbytes() == p.nbytes
    if random.random() < 0.02 and alone:  # others like it go to the reference
        return p.detach()
    size = [1 if random.random() < 0.05 else n for n in p.shape]
    return fill(random, laid_out(random, tuple(size), dtype)).expand(p.shape)
