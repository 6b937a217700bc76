"""Numbers from a few seeds: intervals, comparisons in pairs, times to a target. Pure, no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000
CONFIDENCE = 0.95
_TAIL = 100 * (1 - CONFIDENCE) / 2


class Interval(NamedTuple):
    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        return self.low <= other.high and other.low <= self.high

    @property
    def holds_zero(self) -> bool:
        return self.low <= 0.0 <= self.high


class Versus(NamedTuple):
    """One optimizer against another on the same seeds: by how much better, and how often.

    `gain` is above zero where the first is better; `chance` is the share of the seeds that it wins,
    where an equal result counts half.
    """

    gain: float
    interval: Interval
    chance: float


class Reached(NamedTuple):
    """The median seed's way to the target, None where it misses it; `seeds` tell who got there."""

    seeds: int
    steps: float | None
    seconds: float | None
    optimizer_seconds: float | None


def middle(scores: Sequence[float], trimmed: bool) -> float:
    """The mean, or the mean of the middle half (inter-quartile mean, Agarwal et al. 2021)."""
    return float(_middles(np.asarray([scores], float), trimmed)[0])


def bootstrap(scores: Sequence[float], trimmed: bool = False) -> Interval:
    """Percentile interval of the mean over resampled seeds; the generator's seed is fixed."""
    generator = np.random.default_rng(0)
    draws = generator.choice(np.asarray(scores, float), (RESAMPLES, len(scores)))
    low, high = np.percentile(_middles(draws, trimmed), [_TAIL, 100 - _TAIL])
    return Interval(float(low), float(high))


def versus(ours: Sequence[float], theirs: Sequence[float], higher_is_better: bool) -> Versus:
    """Results of the same seeds compared in pairs."""
    sign = 1.0 if higher_is_better else -1.0
    gains = sign * (np.asarray(ours, float) - np.asarray(theirs, float))
    chance = float(np.mean((gains > 0) + 0.5 * (gains == 0)))
    return Versus(float(gains.mean()), bootstrap(gains.tolist()), chance)


def best_so_far(losses: Sequence[float | None]) -> list[tuple[float | None, ...]]:
    """After 1, 2, ... trials in any order: the median best loss, and the ends of its interval.

    None where that many trials of these would all have diverged.
    """
    values = np.asarray([math.inf if loss is None else loss for loss in losses], float)
    generator = np.random.default_rng(0)
    orders = generator.permuted(np.tile(values, (1000, 1)), axis=1)
    # A nearest rank, since between a number and infinity there is no average.
    ranks = np.percentile(
        np.minimum.accumulate(orders, axis=1), [50, _TAIL, 100 - _TAIL], axis=0, method="nearest"
    )
    return [tuple(_or_none(value) for value in row) for row in ranks.T]


def first_reaching(metrics: Sequence[float], target: float, higher_is_better: bool) -> int | None:
    """The first period whose metric is at the target or better."""
    sign = 1.0 if higher_is_better else -1.0
    found = (at for at, metric in enumerate(metrics) if sign * metric >= sign * target)
    return next(found, None)


def median_with_misses(values: Sequence[float | None]) -> float | None:
    """The median where None is longer than anything; None where the median is a miss."""
    ordered = sorted(math.inf if value is None else value for value in values)
    if not ordered:
        return None
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return _or_none((low + high) / 2)


def ratios_to_best(times: Mapping[str, float | None]) -> dict[str, float | None]:
    """How many times as long as the fastest each takes (Dolan and Moré 2002)."""
    reached = [time for time in times.values() if time is not None]
    best = min(reached, default=math.nan)
    return {name: None if time is None else time / best for name, time in times.items()}


def _middles(draws: np.ndarray, trimmed: bool) -> np.ndarray:
    if not trimmed:
        return draws.mean(axis=1)
    cut = draws.shape[1] // 4
    return np.sort(draws, axis=1)[:, cut : draws.shape[1] - cut].mean(axis=1)


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
