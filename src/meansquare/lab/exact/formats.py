"""Cases of few bits: averages of squares in bfloat16 and in eight bits."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from meansquare import RMSProp

SIZE = 10_000


def bf16_average(steps: int = 3000) -> dict[str, float]:
    """The mean of v, from 1, over its float32 value, when gradients have an rms of 0.1.

    Rounded to nearest, v freezes where (1 - alpha) * v is below half of its last place. The
    library's state of a bfloat16 weight is float32.
    """
    values = {}
    for alpha in (0.99, 0.998):
        exact, nearest, stochastic = _averages(alpha, steps)
        values[f"v / exact, to nearest, alpha {alpha}"] = nearest / exact
        values[f"v / exact, stochastic, alpha {alpha}"] = stochastic / exact
    values["v / exact of the library's bfloat16 weight, alpha 0.998"] = _of_the_library(0.998, 300)
    return values


def _averages(alpha: float, steps: int) -> tuple[float, float, float]:
    draws = torch.Generator().manual_seed(0)
    exact = torch.ones(SIZE)
    nearest, stochastic = exact.bfloat16(), exact.bfloat16()
    for _ in range(steps):
        squares = (0.1 * torch.randn(SIZE, generator=draws)) ** 2
        exact = alpha * exact + (1.0 - alpha) * squares
        nearest = (alpha * nearest.float() + (1.0 - alpha) * squares).bfloat16()
        moved = alpha * stochastic.float() + (1.0 - alpha) * squares
        stochastic = _rounded_by_chance(moved, draws)
    return tuple(float(v.double().mean()) for v in (exact, nearest, stochastic))  # type: ignore


def _rounded_by_chance(values: Tensor, draws: torch.Generator) -> Tensor:
    """Up or down to a bfloat16, by the chance that leaves the mean as it is."""
    noise = torch.randint(2**16, values.shape, generator=draws, dtype=torch.int32)
    bits = (values.view(torch.int32) + noise) & ~0xFFFF
    return bits.view(torch.float32).bfloat16()


def _of_the_library(alpha: float, steps: int) -> float:
    draws = torch.Generator().manual_seed(0)
    weight = torch.zeros(SIZE, dtype=torch.bfloat16, requires_grad=True)
    optimizer = RMSProp([weight], lr=1e-3, alpha=alpha, initial_square_avg=1.0)
    exact = torch.ones(SIZE, dtype=torch.float64)
    for _ in range(steps):
        weight.grad = (0.1 * torch.randn(SIZE, generator=draws)).bfloat16()
        exact = alpha * exact + (1.0 - alpha) * weight.grad.double() ** 2
        optimizer.step()
    return float((optimizer.state[weight]["square_avg"].double() / exact).mean())


def eight_bit_blocks(block: int = 256, alpha: float = 0.99, steps: int = 300) -> dict[str, float]:
    """By how much an update is off at worst when a block's v is kept in eight bits.

    The block is scaled by its largest entry; its gradients' sizes span four decades, or are alike.
    Codes are even, or dynamic: seven decades, each with twice the codes of the one below.
    """
    spread, alike = np.logspace(-4.0, 0.0, block), np.ones(block)
    even, dynamic = np.linspace(0.0, 1.0, 256), _dynamic_codes()
    return {
        "v, even codes": _worst_ratio(spread, even, 1.0, alpha, steps),
        "v, dynamic codes": _worst_ratio(spread, dynamic, 1.0, alpha, steps),
        "root of v, dynamic codes": _worst_ratio(spread, dynamic, 0.5, alpha, steps),
        "root of v, dynamic codes, sizes alike": _worst_ratio(alike, dynamic, 0.5, alpha, steps),
    }


def _dynamic_codes() -> np.ndarray:
    """0, 1, and in each decade from 1e-7 to 1 the middles of 2, 4, ... 128 equal parts."""
    codes = [0.0, 1.0]
    for decade in range(7):
        ends = np.linspace(0.1, 1.0, 2 ** (decade + 1) + 1)
        codes += list(10.0 ** (decade - 6) * 0.5 * (ends[1:] + ends[:-1]))
    return np.sort(codes)


def _worst_ratio(
    sizes: np.ndarray, codes: np.ndarray, power: float, alpha: float, steps: int
) -> float:
    """`power` of v is what is stored; an update is off by the root of what v is over its copy."""
    draws = np.random.default_rng(0)
    exact = stored = sizes**2
    worst = 1.0
    for _ in range(steps):
        squares = (sizes * draws.standard_normal(len(sizes))) ** 2
        exact = alpha * exact + (1.0 - alpha) * squares
        taken = alpha * stored + (1.0 - alpha) * squares
        ratio = np.sqrt(exact / taken)
        worst = max(worst, float(np.maximum(ratio, 1.0 / ratio).max()))
        kept = taken**power
        stored = (kept.max() * _nearest(codes, kept / kept.max())) ** (1.0 / power)
    return worst


def _nearest(codes: np.ndarray, values: np.ndarray) -> np.ndarray:
    above = np.clip(np.searchsorted(codes, values), 1, len(codes) - 1)
    lower, upper = codes[above - 1], codes[above]
    return np.where(values - lower < upper - values, lower, upper)
