"""The settings of RMSProp at another batch size: the square-root rule."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from meansquare.family import RMSPropHyper
from meansquare.parts import part

ROUNDING = 1e-9  # 1 - 0.9 is not 0.1


@dataclass(frozen=True)
class Rescaled:
    """A group's new settings, by what its learning rate and its buffers are multiplied, and how
    many steps count as one of its steps (for bias correction).
    """

    settings: Mapping[str, float]
    rate: float
    buffers: Mapping[str, float]
    steps: float


def rescaled(hyper: RMSPropHyper, kappa: float, batch_from: float, where: str) -> Rescaled:
    """What the settings come to when batches are `kappa` times as large.

    Gradients are taken to be mostly noise, of which a batch kappa times as large has 1/kappa in its
    squares. A step is to do what kappa steps did: to the averages, whose 1-alpha (and 1-mu) are
    kappa times as large; to the drift, so that lr/(1-mu) grows by sqrt(kappa); and to the decay of
    the weights, lr*weight_decay. Malladi et al. 2022, arXiv:2205.10287, for RMSProp and Adam.
    """
    alpha = _slower("alpha", hyper.alpha, kappa, batch_from, where)
    settings = {"alpha": alpha}
    rate, buffers = math.sqrt(kappa), {"square_avg": 1 / kappa}
    if hyper.momentum:
        settings["momentum"] = _slower("momentum", hyper.momentum, kappa, batch_from, where)
        rate *= kappa
        buffers["momentum_buffer"] = kappa if hyper.lr_in_momentum else 1 / math.sqrt(kappa)
    inside = hyper.spec.eps_place == "inside"
    settings["eps"] = hyper.eps / (kappa if inside else math.sqrt(kappa))
    if hyper.weight_decay_mode != "l2":
        settings["weight_decay"] = hyper.weight_decay * kappa / rate
    settings["reference_lr"] = hyper.reference_lr * rate
    steps = 1.0
    if hyper.bias_correction and 0 < alpha < 1 and hyper.alpha > 0:
        steps = math.log(hyper.alpha) / math.log(alpha)
    return Rescaled(settings, rate, buffers, steps)


def _slower(name: str, decay: float, kappa: float, batch_from: float, where: str) -> float:
    """1 - kappa*(1 - decay), which is to be above 0."""
    new = 1 - kappa * (1 - decay)
    if new > ROUNDING or kappa == 1:
        return new
    most = math.ceil(batch_from / (1 - decay) - ROUNDING) - 1
    raise ValueError(
        f"rescale: {name} {decay:g} cannot forget {kappa:g} times as fast{where}; "
        f"batch_to must be {most} or less, got {kappa * batch_from:g}"
    )


def rescale_state(state: Mapping[str, Any], new: Rescaled) -> None:
    """Bring what a parameter's state holds to the new settings."""
    for name, factor in new.buffers.items():
        if name in state:
            part(state[name]).mul_(factor)
    if new.steps != 1.0 and isinstance(state.get("step"), Tensor) and state["step"] > 0:
        state["step"].mul_(new.steps).round_().clamp_(min=1)
