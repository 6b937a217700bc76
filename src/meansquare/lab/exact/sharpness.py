"""Cases of training: the edge of stability, and what a larger batch asks of the settings."""

from __future__ import annotations

import math

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from meansquare import RMSProp
from meansquare.watching.sharpness import sharpness

PRODUCTS = 20  # with the Hessian, at most
LAST = 10  # looks at the end that are averaged


def edge_of_stability(lr: float = 1e-4, steps: int = 1500, every: int = 20) -> dict[str, float]:
    """lr times the largest eigenvalue of P^-1/2 H P^-1/2, at the end of full-batch training.

    A 64-64-64-10 tanh network on the first 1000 digits, half the squared error, debiased RMSProp.
    """
    return {
        f"lr * sharpness at alpha {alpha}": _settled(alpha, lr, steps, every)
        for alpha in (0.99, 0.999)
    }


def _settled(alpha: float, lr: float, steps: int, every: int) -> float:
    pixels, digits = load_digits(return_X_y=True)
    inputs = torch.tensor(pixels[:1000] / 16.0, dtype=torch.float32)
    targets = nn.functional.one_hot(torch.tensor(digits[:1000]), 10).float()
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10)
    )
    weights: list[Tensor] = list(network.parameters())
    optimizer = RMSProp(weights, lr=lr, alpha=alpha, eps=1e-7, bias_correction=True)
    seen = []

    def loss() -> Tensor:
        return 0.5 * ((network(inputs) - targets) ** 2).sum(1).mean()

    for step in range(1, steps + 1):
        if step > steps - LAST * every and step % every == 0:
            seen.append(lr * sharpness(optimizer, loss, PRODUCTS).sharpness)
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    return sum(seen) / len(seen)


def square_root_scaling(dimensions: int = 4000, steps: int = 1600) -> dict[str, float]:
    """The loss of a noisy quadratic after as many samples, in batches larger by kappa.

    By the square root (Malladi et al. 2022): lr * sqrt(kappa), 1 - alpha times kappa and eps by
    sqrt(kappa) less; linearly: lr * kappa with the rest as it was; unscaled: all as it was. Whether
    these end above or below depends on how far training has come: they are told as factors, up.
    """
    lr, forget = 0.03, 2e-3
    base = _noisy(lr, forget, 1, dimensions, steps)
    values = {"base loss": base}
    for kappa in (4, 16):
        root = _noisy(lr * math.sqrt(kappa), forget * kappa, kappa, dimensions, steps)
        values[f"loss / base at kappa {kappa}, square root"] = root / base
        linear = _noisy(lr * kappa, forget, kappa, dimensions, steps)
        values[f"times off at kappa {kappa}, linear"] = max(linear / base, base / linear)
        unscaled = _noisy(lr, forget, kappa, dimensions, steps)
        values[f"times off at kappa {kappa}, unscaled"] = max(unscaled / base, base / unscaled)
    return values


def _noisy(lr: float, forget: float, kappa: int, dimensions: int, steps: int) -> float:
    """The mean of x^2 / 2 after steps / kappa steps from x = 2, gradient noise of deviation 10."""
    draws = torch.Generator().manual_seed(0)
    weight = torch.full((dimensions,), 2.0, requires_grad=True)
    noise = 10.0 / math.sqrt(kappa)
    optimizer = RMSProp(
        [weight], lr=lr, alpha=1.0 - forget, eps=1e-8 / math.sqrt(kappa),
        initial_square_avg=noise**2,
    )  # fmt: skip
    for _ in range(steps // kappa):
        weight.grad = weight.detach() + noise * torch.randn(dimensions, generator=draws)
        optimizer.step()
    return float(0.5 * (weight.detach() ** 2).mean())
