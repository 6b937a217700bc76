"""Cases built so that an optimizer goes wrong: online gradients, separable data, a long tail."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.optim import Optimizer

from meansquare import SGD, AdaGrad, Adam, RMSProp


def reddi(large: int = 10, steps: int = 200_000) -> dict[str, float]:
    """Where RMSProp ends in [-1, 1] when the gradient is `large` once in so many, else -1.

    The mean gradient is above 0, so that -1 is right; lr = 1/sqrt(k), v begins at 100 * large.
    """
    alphas = (0.9, 0.99)
    points = [torch.zeros(1, dtype=torch.float64, requires_grad=True) for _ in alphas]
    optimizer = RMSProp(
        [{"params": [p], "alpha": alpha} for p, alpha in zip(points, alphas, strict=True)],
        lr=1.0, initial_square_avg=100.0 * large,
    )  # fmt: skip
    gradients = {True: _number(float(large)), False: _number(-1.0)}
    with torch.no_grad():
        for k in range(1, steps + 1):
            for group, point in zip(optimizer.param_groups, points, strict=True):
                group["lr"] = 1.0 / math.sqrt(k)
                point.grad = gradients[k % large == 1]
            optimizer.step()
            for point in points:
                point.clamp_(-1.0, 1.0)
    return {
        f"end at alpha {alpha}": point.item() for alpha, point in zip(alphas, points, strict=True)
    }


def amsgrad(period: int = 101, steps: int = 202_000, alpha: float = 0.99) -> dict[str, float]:
    """The same idea with a gradient of 1010 once in 101, else -10, and lr = 0.1/sqrt(t).

    AMSGrad (the largest v so far) and ADOPT's order (divide by the old v) are written out here.
    """
    return {
        "end of RMSProp": _rmsprop(period, steps, alpha),
        "end of AMSGrad": _amsgrad(period, steps, alpha),
        "end of ADOPT's order": _adopt(period, steps, alpha),
    }


def _gradients(period: int, steps: int) -> Iterator[tuple[float, float]]:
    """The learning rate and the gradient of every step."""
    for t in range(1, steps + 1):
        yield 0.1 / math.sqrt(t), 1010.0 if t % period == 1 else -10.0


def _rmsprop(period: int, steps: int, alpha: float) -> float:
    point = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = RMSProp([point], lr=0.1, alpha=alpha)
    gradients = {1010.0: _number(1010.0), -10.0: _number(-10.0)}
    with torch.no_grad():
        for lr, g in _gradients(period, steps):
            optimizer.param_groups[0]["lr"], point.grad = lr, gradients[g]
            optimizer.step()
            point.clamp_(-1.0, 1.0)
    return point.item()


def _amsgrad(period: int, steps: int, alpha: float) -> float:
    x, v, most = 0.0, 0.0, 0.0
    for lr, g in _gradients(period, steps):
        v = alpha * v + (1.0 - alpha) * g * g
        most = max(most, v)
        x = min(1.0, max(-1.0, x - lr * g / (math.sqrt(most) + 1e-8)))
    return x


def _adopt(period: int, steps: int, alpha: float) -> float:
    x, v = 0.0, 0.0
    for lr, g in _gradients(period, steps):
        # The first gradient only begins v.
        x = min(1.0, max(-1.0, x - lr * g / math.sqrt(v))) if v else x
        v = alpha * v + (1.0 - alpha) * g * g if v else g * g
    return x


def wilson(half: int = 100, positive: int = 60, steps: int = 2000) -> dict[str, float]:
    """Errors, in per cent, on the data of Wilson et al. 2017, section 3.3; the negatives are 40 %.

    Feature 1 is the label, 2 and 3 are always 1, and each example has features of its own: one of a
    positive, five of a negative. Linear models from 0, squared loss.
    """
    inputs, labels = _wilson_data(half, positive)
    made = {
        "gradient descent": lambda p: SGD(p, lr=0.1),
        "RMSProp": lambda p: RMSProp(p, lr=1e-2),
        "AdaGrad": lambda p: AdaGrad(p, lr=1e-1),
        "Adam": lambda p: Adam(p, lr=1e-2),
    }
    values = {}
    for name, make in made.items():
        weight = torch.zeros(inputs.shape[1], dtype=torch.float64, requires_grad=True)
        _fit(weight, make([weight]), inputs[:half], labels[:half], steps)
        wrong = (inputs @ weight.detach()) * labels <= 0
        values[f"training error of {name}"] = 100.0 * float(wrong[:half].double().mean())
        values[f"test error of {name}"] = 100.0 * float(wrong[half:].double().mean())
    return values


def _wilson_data(half: int, positive: int) -> tuple[Tensor, Tensor]:
    labels = torch.ones(2 * half, dtype=torch.float64)
    for begin in (0, half):
        labels[begin + positive : begin + half] = -1.0
    inputs = torch.zeros(2 * half, 6 * 2 * half, dtype=torch.float64)
    inputs[:, 0], inputs[:, 1:3] = labels, 1.0
    for number, label in enumerate(labels.tolist()):
        own = 3 + 5 * number
        inputs[number, own : own + (1 if label > 0 else 5)] = 1.0
    return inputs, labels


def _fit(weight: Tensor, optimizer: Optimizer, inputs: Tensor, labels: Tensor, steps: int) -> None:
    for _ in range(steps):
        weight.grad = inputs.T @ (inputs @ weight.detach() - labels) / len(labels)
        optimizer.step()


def long_tail(classes: int = 1000) -> dict[str, float]:
    """The loss of a softmax layer on one-hot inputs of frequency 1/k, at the best lr of a grid.

    The grids are Kunstner's, two rates a decade, to 316 and to 1; off it, gradient descent fits
    this convex problem, too. All weights of a row but that of its class have one gradient and one
    value, from first to last: two numbers stand for the row.
    """
    shares = 1.0 / torch.arange(1, classes + 1, dtype=torch.float64)
    shares /= shares.sum()
    steps_down = [10.0 ** (-exponent / 2) for exponent in range(8)]
    descent = min(_tail(lambda p, lr=316 * at: SGD(p, lr=lr), shares) for at in steps_down)
    adaptive = min(_tail(lambda p, lr=at: RMSProp(p, lr=lr), shares) for at in steps_down)
    return {
        "loss of gradient descent": descent[0],
        "its loss on the rarest class": descent[1],
        "loss of RMSProp": adaptive[0],
        "loss of gradient descent at lr 1e5": _tail(lambda p: SGD(p, lr=1e5), shares)[0],
    }


def _tail(
    make: Callable[[list[Tensor]], Optimizer], shares: Tensor, steps: int = 100
) -> tuple[float, float]:
    """The mean loss after some full-batch steps, and that of the rarest class."""
    classes = len(shares)
    own, other = (torch.zeros(classes, dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimizer = make([own, other])
    for _ in range(steps):
        miss = 1.0 - _chance(own, other)
        own.grad, other.grad = -shares * miss, shares * miss / (classes - 1)
        optimizer.step()
    losses = -_chance(own, other).log()
    return float((shares * losses).sum()), float(losses[-1])


def _chance(own: Tensor, other: Tensor) -> Tensor:
    apart = (other - own).detach() + math.log(len(own) - 1)
    return torch.sigmoid(-apart)


def _number(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)
