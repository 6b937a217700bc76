"""What an optimizer divides gradients by: RMSProp's, Adam's and AdaGrad's, torch's and ours."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from meansquare import rules
from meansquare.parts import part
from meansquare.spec import EpsPlace

TINY = 1e-38  # in place of an eps of 0, near the least normal float32


class Divisor(NamedTuple):
    """How a gradient is divided: by the root of `buffer` (less the square of `mean`), with `eps`.

    `decay` is that of the average; None for AdaGrad's sum, which is none. `corrected` averages are
    divided by 1 - decay**step first.
    """

    buffer: str
    mean: str | None
    decay: float | None
    eps: float
    place: EpsPlace
    corrected: bool

    @property
    def buffers(self) -> list[str]:
        return [self.buffer] if self.mean is None else [self.buffer, self.mean]

    def root(self, buffers: Mapping[str, Any], correction: float) -> Any:
        """The root of the second moment, of arrays or tensors."""
        a = buffers[self.buffer] / correction
        if self.mean is not None:
            m = buffers[self.mean] / correction
            a = rules.at_least(a - m * m, a * 2.0**-20)  # as the kernels hold it
        return rules.sqrt(a)

    def correction(self, step: float, settled: bool = False) -> float:
        """What averages are divided by because they began at zero; `settled`: in any case."""
        if self.decay is None or step <= 0 or not (self.corrected or settled):
            return 1.0
        return 1 - self.decay**step

    def with_eps(self, root: Any) -> Any:
        """What the gradient is divided by."""
        a = root * root if self.place == "inside" else root
        if self.place == "inside":
            return rules.sqrt(a + self.eps)
        return rules.at_least(a, self.eps) if self.place == "max" else a + self.eps

    @property
    def least_root(self) -> float:
        """The root below which eps is the larger part."""
        return math.sqrt(self.eps) if self.place == "inside" else self.eps


def divisor_of(group: Mapping[str, Any], state: Mapping[str, Any]) -> Divisor | None:
    """How an optimizer of this group, with this state, divides; None where it does not."""
    eps = group.get("eps", 0.0)
    eps = max(float(eps), TINY) if not isinstance(eps, tuple) else TINY  # Adafactor's are two
    if "square_avg" in state and "alpha" in group:  # Adadelta's has a rate of its own besides
        place = group.get("eps_place", "outside")
        if place == "inside_with_momentum":
            place = "inside" if group.get("momentum") else "outside"
        mean = "grad_avg" if group.get("centered") else None
        corrected = bool(group.get("bias_correction", False))
        return Divisor("square_avg", mean, float(group["alpha"]), eps, place, corrected)
    if "exp_avg_sq" in state:
        name = "max_exp_avg_sq" if group.get("amsgrad") else "exp_avg_sq"
        return Divisor(name, None, float(group["betas"][1]), eps, "outside", True)
    if "sum" in state:
        return Divisor("sum", None, None, eps, "outside", False)
    return None


def divisor(
    optimizer: Optimizer, group: Mapping[str, Any], p: Tensor, settled: bool = False
) -> Tensor | None:
    """What the gradient of `p` was divided by in the last step, as real numbers in p's form.

    None before the first step, and where the optimizer does not divide. `settled`: as if the
    average had been corrected for its start at zero.
    """
    state = optimizer.state.get(p, {})
    how = divisor_of(group, state)
    if how is None:
        return None
    buffers = {name: real(state[name]) for name in how.buffers}
    return how.with_eps(how.root(buffers, how.correction(steps_of(state), settled)))


def steps_of(state: Mapping[str, Any]) -> float:
    """How many steps a parameter has taken; 0 where that is not kept."""
    return float(state.get("step", 0.0))


def rate_of(group: Mapping[str, Any], state: Mapping[str, Any]) -> float:
    """The learning rate of the last step, as Adam corrects it and AdaGrad lets it fall."""
    rate, steps = float(group["lr"]), steps_of(state)
    if "betas" in group and steps > 0:
        rate /= 1 - float(group["betas"][0]) ** steps
    if group.get("lr_decay"):
        rate /= 1 + (steps - 1) * float(group["lr_decay"])
    return rate


def stability_limit(group: Mapping[str, Any]) -> float:
    """What lr times the sharpness has to stay below for a step on a quadratic to be stable.

    2 for a plain step; 2*(1+mu) with momentum, 2*(1+mu)/(1+2*mu) with Nesterov's (of the form
    b = mu*b + g); 2*(1+beta1)/(1-beta1) for Adam, whose average is m = beta1*m + (1-beta1)*g
    (Cohen et al. 2022, arXiv:2207.14484, section 2).

    >>> stability_limit({"momentum": 0.9})
    3.8
    """
    if "betas" in group:
        beta = float(group["betas"][0])
        return 2 * (1 + beta) / (1 - beta)
    mu = float(group.get("momentum") or 0.0)
    limit = 2 * (1 + mu) / (1 + 2 * mu if group.get("nesterov") else 1)
    return limit / (1 - float(group.get("dampening") or 0.0))


def real(t: Tensor) -> Tensor:
    """This rank's part of a tensor, without autograd, complex numbers as pairs of real ones."""
    own = t.detach() if type(t) in (Tensor, Parameter) else part(t.detach())
    return torch.view_as_real(own.resolve_conj()) if own.is_complex() else own
