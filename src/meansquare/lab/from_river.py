"""River's own optimizers on torch's weights, to be trained beside ours on one stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from river import optim
from torch import Tensor


class FromRiver(torch.optim.Optimizer):
    """Steps every parameter with a river optimizer of its own, handed over as a dict of numbers.

    River's arithmetic, in double precision, and its defaults but for the learning rate. A weight
    has its own state there, too, so one optimizer per parameter is one for all of them. A dict
    gives the bits that river's own models get with a `VectorDict` (equal in 2,000 steps, with
    river 0.23.0 and 0.26.1). Most of a step's time is the way there and back: river's own share
    is 3 to 8 us for ten weights.
    """

    kind: Callable[[float], Any]

    def __init__(self, params: Iterable[Tensor], lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step; there are no closures here."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._step(weight, weight.grad, group["lr"])

    def _step(self, weight: Tensor, grad: Tensor, lr: float) -> None:
        state = self.state[weight]
        if "river" not in state:
            state["river"] = type(self).kind(lr)
        state["river"].lr = optim.schedulers.Constant(lr)
        numbers, slopes = (dict(enumerate(one.flatten().tolist())) for one in (weight, grad))
        stepped = state["river"].step(numbers, slopes)
        # From numpy in half the time of `torch.tensor`.
        weight.copy_(torch.from_numpy(np.array([*stepped.values()])).view_as(weight))


class RiverSGD(FromRiver):
    """`river.optim.SGD`."""

    kind = optim.SGD


class RiverRMSProp(FromRiver):
    """`river.optim.RMSProp`: rho 0.9, eps inside the root."""

    kind = optim.RMSProp


class RiverAdaGrad(FromRiver):
    """`river.optim.AdaGrad`: eps inside the root."""

    kind = optim.AdaGrad


class RiverAdam(FromRiver):
    """`river.optim.Adam`."""

    kind = optim.Adam
