"""Cases that follow from the rule itself, in double precision and through the library's step."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.optim import Optimizer

from meansquare import SGD, AdaGrad, RMSProp

SIZE = 50  # weights


def adagrad_identity() -> dict[str, float]:
    """RMSProp with alpha = 1 - 1/t and lr/sqrt(t) beside AdaGrad, without eps."""
    ours, theirs = _zeros(), _zeros()
    rmsprop, adagrad = RMSProp([ours], lr=0.1, eps=0.0), AdaGrad([theirs], lr=0.1, eps=0.0)
    draws = torch.Generator().manual_seed(0)
    worst = 0.0
    for t in range(1, 201):
        gradient = _normal(draws)
        rmsprop.param_groups[0].update(alpha=1.0 - 1.0 / t, lr=0.1 / math.sqrt(t))
        steps = [_step(rmsprop, ours, gradient), _step(adagrad, theirs, gradient)]
        worst = max(worst, _distance(*steps))
    return {"largest relative difference of 200 steps": worst}


def inclusion() -> dict[str, float]:
    """RMSProp with a large eps and lr = eta * eps beside Momentum with eta, on a quadratic."""
    return {f"relative difference at eps {eps:g}": _to_momentum(eps) for eps in (1e2, 1e4, 1e8)}


def _to_momentum(eps: float, eta: float = 0.1, steps: int = 100) -> float:
    scales = torch.linspace(0.1, 1.0, SIZE, dtype=torch.float64)
    ours, theirs = (torch.ones(SIZE, dtype=torch.float64, requires_grad=True) for _ in range(2))
    rmsprop = RMSProp([ours], lr=eta * eps, eps=eps, momentum=0.9)
    momentum = SGD([theirs], lr=eta, momentum=0.9)
    for _ in range(steps):
        for weight, optimizer in ((ours, rmsprop), (theirs, momentum)):
            weight.grad = scales * weight.detach()
            optimizer.step()
    return float((ours - theirs).detach().norm() / (1.0 - theirs).detach().norm())


def largest_step(alpha: float = 0.99, lr: float = 0.1) -> dict[str, float]:
    """Steps as multiples of lr / sqrt(1 - alpha), and the first debiased one as one of lr."""
    weight, debiased = _zeros(), _zeros()
    optimizer = RMSProp([weight], lr=lr, alpha=alpha, eps=0.0)
    corrected = RMSProp([debiased], lr=lr, alpha=alpha, eps=0.0, bias_correction=True)
    draws = torch.Generator().manual_seed(0)
    bound = lr / math.sqrt(1.0 - alpha)
    first = _step(optimizer, weight, _normal(draws)).abs() / bound
    first_corrected = _step(corrected, debiased, _normal(draws)).abs() / lr
    later = [
        # Gradients over twelve decades: a jump after small ones makes the largest steps.
        float(_step(optimizer, weight, _normal(draws) * 10.0 ** (t % 12 - 6)).abs().max()) / bound
        for t in range(1000)
    ]
    return {
        "first step / bound, least": float(first.min()),
        "first step / bound, most": float(first.max()),
        "largest of 1000 later steps / bound": max(later),
        "first debiased step / lr, least": float(first_corrected.min()),
        "first debiased step / lr, most": float(first_corrected.max()),
    }


def sign_descent() -> dict[str, float]:
    """alpha = 0: how far a step is from lr times the gradient's sign, over gradients' sizes."""
    weight, draws = _zeros(), torch.Generator().manual_seed(0)
    optimizer = RMSProp([weight], lr=0.1, alpha=0.0, eps=0.0)
    worst = 0.0
    for exponent in range(-100, 101, 10):
        gradient = _normal(draws) * 10.0**exponent
        worst = max(worst, _distance(_step(optimizer, weight, gradient), -0.1 * gradient.sign()))
    return {"largest relative difference": worst}


def scale_invariance() -> dict[str, float]:
    """The trajectory on a quadratic when the loss is multiplied, with eps 0."""
    plain = _trajectory(1.0)
    return {
        "relative difference, loss times 2**20": _distance(_trajectory(2.0**20), plain),
        "relative difference, loss times 1000": _distance(_trajectory(1000.0), plain),
    }


def _trajectory(factor: float, steps: int = 200) -> Tensor:
    scales = torch.linspace(0.1, 1.0, SIZE, dtype=torch.float64)
    weight = torch.ones(SIZE, dtype=torch.float64, requires_grad=True)
    optimizer = RMSProp([weight], lr=1e-3, eps=0.0)
    for _ in range(steps):
        weight.grad = factor * scales * weight.detach()
        optimizer.step()
    return weight.detach().clone()


def limit_cycle(lr: float = 0.1, h: float = 2.0, eps: float = 0.01) -> dict[str, float]:
    """Where RMSProp ends on h x^2 / 2, beside the radius that the rule says."""
    inside = 1e-3
    return {
        "radius / (lr/2 - eps/h), eps outside": _radius(lr, h, eps, "outside") / (lr / 2 - eps / h),
        "radius / sqrt((lr/2)^2 - eps/h^2), eps inside": _radius(lr, h, inside, "inside")
        / math.sqrt((lr / 2) ** 2 - inside / h**2),
        "radius at eps = lr h / 2 and a little": _radius(lr, h, 1.05 * lr * h / 2, "outside"),
    }


def _radius(lr: float, h: float, eps: float, place: str) -> float:
    weight = torch.ones(1, dtype=torch.float64, requires_grad=True)
    optimizer = RMSProp([weight], lr=lr, alpha=0.99, eps=eps, eps_place=place)  # type: ignore[arg-type]
    draws = torch.Generator().manual_seed(0)
    for _ in range(6000):
        noise = 1e-9 * torch.randn(1, generator=draws, dtype=torch.float64)
        weight.grad = h * weight.detach() + noise
        optimizer.step()
    return abs(weight.item())


def _zeros() -> Tensor:
    return torch.zeros(SIZE, dtype=torch.float64, requires_grad=True)


def _normal(draws: torch.Generator) -> Tensor:
    return torch.randn(SIZE, generator=draws, dtype=torch.float64)


def _step(optimizer: Optimizer, weight: Tensor, gradient: Tensor) -> Tensor:
    """The step on a gradient, taken from 0, where it is not rounded into a weight."""
    with torch.no_grad():
        weight.zero_()
    weight.grad = gradient.clone()
    optimizer.step()
    return weight.detach().clone()


def _distance(one: Tensor, other: Tensor) -> float:
    """The largest difference of an element, relative to it."""
    return float(((one - other).abs() / other.abs()).max())
