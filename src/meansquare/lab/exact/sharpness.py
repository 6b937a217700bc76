"""Cases of training: the edge of stability, and what a larger batch asks of the settings."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from meansquare import RMSProp

ITERATIONS = 20  # of the power iteration, which goes on from its last vector
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
    direction: list[Tensor] = [torch.randn_like(weight) for weight in weights]
    seen = []
    for step in range(1, steps + 1):
        loss = 0.5 * ((network(inputs) - targets) ** 2).sum(1).mean()
        looked_at = step > steps - LAST * every and step % every == 0
        optimizer.zero_grad()
        gradients = torch.autograd.grad(loss, weights, create_graph=looked_at)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient.detach()
        if looked_at:
            scales = [_scale(optimizer, weight, alpha, step - 1) for weight in weights]
            seen.append(lr * _sharpness(gradients, weights, scales, direction))
        optimizer.step()
    return sum(seen) / len(seen)


def _scale(optimizer: RMSProp, weight: Tensor, alpha: float, step: int) -> Tensor:
    """P^-1/2 of a weight: P is what its gradient is divided by."""
    average = optimizer.state[weight]["square_avg"] / (1.0 - alpha**step)
    return (average.sqrt() + 1e-7).rsqrt()


def _sharpness(
    gradients: Sequence[Tensor],
    weights: list[Tensor],
    scales: list[Tensor],
    direction: list[Tensor],
) -> float:
    """The largest eigenvalue, by power iteration from `direction`, which is moved to its vector."""
    value = 0.0
    for _ in range(ITERATIONS):
        size = math.sqrt(sum(float((part**2).sum()) for part in direction))
        scaled = [part / size * scale for part, scale in zip(direction, scales, strict=True)]
        products = torch.autograd.grad(gradients, weights, scaled, retain_graph=True)
        image = [product * scale for product, scale in zip(products, scales, strict=True)]
        value = sum(
            float((new * old).sum()) / size for new, old in zip(image, direction, strict=True)
        )
        direction[:] = image
    return value


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
