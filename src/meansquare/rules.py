"""The definition of the update, once, as arithmetic on any number-like value.

`rmsprop` runs on NumPy arrays (the oracle of the tests), on torch tensors (the reference
backend) and on the symbols of `tools/emit.py`, which prints it as C++ and as Triton.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from meansquare.spec import Hyper, Spec

Precision = Literal["float32", "float64"]

# Centered: v - m*m loses its digits when g hardly varies. Below v * 2**-20 (2**-49 in float64)
# the difference is rounding noise, so it is held there and a step stays near 2**10 * lr.
VARIANCE_FLOOR: dict[Precision, float] = {"float32": 2.0**-20, "float64": 2.0**-49}
# Twice the least normal number. What is smaller counts as zero: averages that decay come to
# subnormal numbers in the end, over which processors take many times as long.
TINY: dict[Precision, float] = {"float32": 2.0**-125, "float64": 2.0**-1021}


@dataclass(frozen=True)
class Coefficients:
    """Hyper-parameters folded in double precision into the factors that the rule multiplies by."""

    scale: Any
    """Factor on the gradient: -1 to maximize."""
    l2: Any
    """L2 weight decay: l2*p joins the gradient."""
    keep: Any
    """Share of the weight that decoupled decay leaves."""
    alpha: Any
    """Decay of the averages v and m."""
    gain: Any
    """1 - alpha."""
    debias: Any
    """Bias correction 1 / (1 - alpha**t), or 1."""
    floor: Any
    """Least variance, as a share of v."""
    eps: Any
    """Added to (or the least value of) the denominator."""
    mu: Any
    """Momentum."""
    lr: Any
    """Learning rate."""
    tiny: Any
    """Least gradient and element of a buffer that is not zero."""
    least: Any
    """Least gradient whose square counts, and least denominator."""


class Streams(NamedTuple):
    """What a step writes: the parameter and its buffers (None where the Spec has none)."""

    p: Any
    v: Any
    m: Any = None
    b: Any = None


def fold(hyper: Hyper, t: float, precision: Precision) -> Coefficients:
    """The Coefficients of step `t` (1 for the first), for elements computed in `precision`.

    Decoupled decay keeps 1 - lr*wd of a weight (Loshchilov & Hutter 2019, arXiv:1711.05101, as
    torch scales it); `corrected` keeps 1 - (lr**2/reference_lr)*wd (timm, `RMSpropTF`).
    """
    lr, decay, mode = hyper.lr, hyper.weight_decay, hyper.weight_decay_mode
    shrink = {"l2": 0.0, "decoupled": lr * decay, "corrected": 0.0}[mode]
    if mode == "corrected" and decay > 0 and lr > 0:
        shrink = lr * lr / (hyper.reference_lr or lr) * decay
    gain, floor = 1.0 - hyper.alpha, VARIANCE_FLOOR[precision]
    share = floor if hyper.centered and floor else 1.0  # v*floor is to be normal too
    tiny = TINY[precision] / share
    least = math.sqrt(tiny / gain)  # so gain*g*g is `tiny` or more
    return Coefficients(
        scale=-1.0 if hyper.maximize else 1.0,
        l2=decay if mode == "l2" else 0.0,
        keep=1.0 - shrink,
        alpha=hyper.alpha,
        gain=gain,
        debias=1.0 / (1.0 - hyper.alpha**t) if hyper.bias_correction else 1.0,
        floor=floor,
        eps=max(hyper.eps, least * least if hyper.eps_place == "inside" else least),
        mu=hyper.momentum,
        lr=lr,
        tiny=tiny,
        least=least,
    )


def rmsprop(spec: Spec, h: Coefficients, p, g, v, m=None, b=None) -> Streams:
    """One step of RMSProp on one element or on arrays of them.

    v = alpha*v + (1-alpha)*g^2;  p = p - lr*g/(sqrt(v)+eps)

    Hinton, Neural Networks for Machine Learning, lecture 6e (2012); centered: Graves 2013,
    arXiv:1308.0850, equations 38-45; momentum: torch.optim.RMSprop and, inside the buffer,
    tf.train.RMSPropOptimizer. NaN passes through, what is too small to count is zero.
    """
    g = h.scale * or_zero(g, h.tiny)
    g = choose(h.l2 > 0, g + h.l2 * p, g)
    v = h.alpha * or_zero(v, h.tiny) + h.gain * square(g, h.least)
    a = v * h.debias
    if spec.centered:
        m = h.alpha * or_zero(m, h.tiny) + h.gain * g
        # In this order: inf - inf is no variance.
        a = at_least(a * h.floor, a - square(m * h.debias, h.least))
    u = g / denominator(spec, h, a)
    if spec.momentum == "none":
        return Streams(h.keep * p - h.lr * u, v, m)
    u = h.lr * u if spec.lr_in_momentum else u
    b = h.mu * or_zero(b, h.tiny) + u
    d = u + h.mu * b if spec.momentum == "nesterov" else b
    d = d if spec.lr_in_momentum else h.lr * d
    return Streams(h.keep * p - d, v, m, b)


def denominator(spec: Spec, h: Coefficients, a):
    """What the gradient is divided by, from the (corrected, centered) second moment `a`."""
    if spec.eps_place == "outside":
        return sqrt(a) + h.eps
    if spec.eps_place == "inside":
        return sqrt(a + h.eps)
    return at_least(sqrt(a), h.eps)


def sqrt(x):
    return x.sqrt() if hasattr(x, "sqrt") else np.sqrt(x)


def at_least(x, least):
    """The larger of the two; x where either is NaN."""
    if hasattr(x, "at_least"):
        return x.at_least(least)
    return x.where(~(x < least), least) if hasattr(x, "where") else np.where(x < least, least, x)


def square(x, least):
    """x*x, or zero where x is smaller than `least` in size."""
    x = or_zero(x, least)
    return x * x


def or_zero(x, least):
    """x, or zero where it is smaller than `least` in size."""
    if hasattr(x, "or_zero"):
        return x.or_zero(least)
    if hasattr(x, "where"):
        return x.where(~(x.abs() < least), 0.0)
    return np.where(np.abs(x) < least, x.dtype.type(0), x)


def choose(condition, x, y):
    """x where the condition on a coefficient holds, else y."""
    if isinstance(condition, bool | np.bool_):
        return x if condition else y
    return condition.choose(x, y)
