"""The range test: how the loss falls, and then rises, while the learning rate grows."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from torch import Tensor
from torch.optim import Optimizer

Begin = Callable[[int], tuple[Optimizer, Iterator[Tensor]]]
"""Makes a training from a seed: its optimizer, and losses that are computed when asked for."""
BLOWN_UP = 4.0  # times the first level, a loss ends the test
SMOOTH = 0.85  # weight of what was, in the running mean of losses


@dataclass(frozen=True)
class Curve:
    """The losses of one range test; `level` is their running mean, `rate` what it suggests.

    None where the loss did not fall by more than its own noise.
    """

    seed: int
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    level: tuple[float, ...]
    rate: float | None
    steps: int


def range_test(begin: Begin, seed: int, low: float, high: float, steps: int, warmup: int) -> Curve:
    """Train while the learning rate grows by one factor from `low` to `high` over `steps`.

    The second moment is warmed before, by `warmup` steps with a learning rate of 0: it begins at
    zero, and the first steps of an RMSProp without bias correction are ten times as large as they
    are meant. Ends early where the loss is not finite or above BLOWN_UP times its first level.
    Source: Smith 2017, arXiv:1506.01186.
    """
    optimizer, losses = begin(seed)
    first = warm(optimizer, losses, warmup)
    start = float(np.mean(first)) if first else math.nan
    noise = float(np.std(first)) if first else 0.0
    seen: list[float] = []
    rates = [low * (high / low) ** (i / (steps - 1)) for i in range(steps)]
    for rate, loss in zip(rates, losses, strict=False):
        value = _step(optimizer, loss, rate)
        if not math.isfinite(value):
            break
        seen.append(value)
        if value - start > (BLOWN_UP - 1) * max(abs(start), noise):
            break
    level = _level(start, seen)
    chosen = suggested(rates[: len(seen)], level, start, noise)
    return Curve(seed, tuple(rates[: len(seen)]), tuple(seen), tuple(level), chosen,
                 len(first) + len(seen))  # fmt: skip


def warm(optimizer: Optimizer, losses: Iterator[Tensor], steps: int) -> list[float]:
    """Fill the second moment by steps that move nothing; returns their losses."""
    return [_step(optimizer, loss, 0.0) for loss in islice(losses, steps)]


def _step(optimizer: Optimizer, loss: Tensor, rate: float) -> float:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def _level(start: float, losses: Sequence[float]) -> list[float]:
    """The running mean of losses, from their first level on."""
    level, now = [], start
    for loss in losses:
        now = SMOOTH * now + (1 - SMOOTH) * loss if math.isfinite(now) else loss
        level.append(now)
    return level


def suggested(
    rates: Sequence[float], level: Sequence[float], start: float, noise: float
) -> float | None:
    """The rate at which half of the fall of the loss was made.

    It is where the loss falls fast, and well below the rates at which it rises again; half is told
    apart from noise where the steepest place, a difference of neighbours, is not.
    """
    if not level:
        return None
    lowest = int(np.argmin(level))
    fall = start - level[lowest]
    # A running mean of independent losses has (1-s)/(1+s) of their variance.
    if not fall > 2 * noise * math.sqrt((1 - SMOOTH) / (1 + SMOOTH)):
        return None
    return rates[next(i for i, value in enumerate(level) if value <= start - fall / 2)]
