"""Optimizers that are looked at, for the tests of what a look tells."""

import pytest
import torch

from meansquare import SGD, AdaGrad, Adam, RMSProp
from meansquare.watching import measuring
from meansquare.watching.measuring import Before, told

CLOSE = 1e-12  # relative: a sum in another order, in float64


def alike(value, expected, relative):
    """Whether two numbers, lists of them or None are the same but for rounding."""
    if value is None or expected is None:
        return value is expected
    return value == pytest.approx(expected, rel=relative, abs=1e-300, nan_ok=True)


def measured(optimizer, before):
    return told(measuring.measured(optimizer, before))


def leave_to_numpy(before):
    """What the extension has of it."""
    before.others = {i: before.of(i) for i in range(len(before.rows))}
    before.held = None


def looked_at(optimizer, p, gradient):
    p.grad = torch.tensor(gradient)
    before = Before(optimizer, None)
    optimizer.step()
    return measured(optimizer, before)[0]


MAKERS = {
    "RMSProp": (RMSProp, torch.optim.RMSprop, {}),
    "RMSProp with momentum": (RMSProp, torch.optim.RMSprop, {"momentum": 0.9}),
    "centered": (RMSProp, torch.optim.RMSprop, {"centered": True}),
    "AdaGrad": (AdaGrad, torch.optim.Adagrad, {"lr_decay": 0.1}),
    "Adam": (Adam, torch.optim.Adam, {}),
    "AMSGrad": (Adam, torch.optim.Adam, {"amsgrad": True}),
    "SGD": (SGD, torch.optim.SGD, {"momentum": 0.9}),
}
