"""Daily demand for one article, made here by a seeded generator: it is not measured anywhere."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from meansquare.lab.tasks import Facts
from meansquare.lab.tasks.supervised import Split, SplitName, Supervised, count

SERIES_SEED = 0
DAYS = 5 * 365
CHANGE = 1000  # the day on which the regime changes: customers, their week and their patience
VALIDATION_DAY, TEST_DAY = 1260, 1545
WINDOW = 28  # days that a forecast looks back
WEEK, YEAR = 7, 365.25
# What each weekday sells against the average, before and after the change: offices close, and
# the weekend takes over.
WEEKDAYS_BEFORE = (1.10, 1.05, 1.05, 1.10, 1.25, 0.90, 0.55)
WEEKDAYS_AFTER = (0.80, 0.80, 0.85, 0.90, 1.15, 1.45, 1.05)


class Demand(NamedTuple):
    """Pieces sold on each day, and the days of a promotion (1, otherwise 0), known beforehand."""

    pieces: np.ndarray
    promotion: np.ndarray


class Forecast(nn.Module):
    """An MLP over the past days and what is known of the next; adds to the same day last week."""

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 * WINDOW + 1 + WEEK + 2, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, known: Tensor) -> Tensor:
        return known[:, WINDOW - WEEK] + self.layers(known).squeeze(-1)


def load(name: str) -> Supervised:
    """The task with the made series in it: one day ahead, the future is never seen."""
    demand = made_demand()
    train = demand.pieces[:VALIDATION_DAY]
    mean, deviation = train.mean(), float(train.std())
    splits = _splits((demand.pieces - mean) / deviation, demand.promotion)
    facts = Facts(
        name=name,
        title="Daily demand (made)",
        kind="forecast",
        model=f"MLP over {WINDOW} days and the next day's calendar: two hidden layers of 64 ReLU "
        "units, added to the same day last week",
        parameters=count(Forecast()),
        batch_size=32,
        sizes={part: len(split.targets) for part, split in splits.items()},
        metric="test error (RMSE)",
        unit="pieces",
        higher_is_better=False,
        baselines=_baselines(demand.pieces, splits, mean, deviation),
        target=28.5,
        notes=f"Made, not measured: {DAYS:,} days from a generator with a fixed seed, with a "
        "trend, a weekly and a yearly season, promotions that are known beforehand, and noise. "
        f"On day {CHANGE:,} the regime changes: the level falls, the week turns over and a "
        "promotion moves half as much. Forecast one day ahead; days before "
        f"{VALIDATION_DAY:,} for training, from then for validation, from {TEST_DAY:,} for the "
        "test, so that training has seen the change. Standardised with the training days' mean "
        "and deviation; squared-error loss.",
    )

    def rmse(output: Tensor, target: Tensor) -> float:
        return deviation * float(nn.functional.mse_loss(output, target).double().sqrt())

    return Supervised(facts, Forecast, splits, nn.functional.mse_loss, rmse)


def made_demand() -> Demand:
    """The series: level x weekday x season x promotion x noise, with a change on one day."""
    draw = np.random.default_rng(SERIES_SEED)
    day = np.arange(DAYS)
    after = day >= CHANGE
    promotion = np.repeat(draw.random(DAYS // 5) < 0.12, 5).astype(float)
    level = np.where(after, 170.0, 220.0) * (1 + 0.08 * day / YEAR)
    weekday = np.where(
        after, np.array(WEEKDAYS_AFTER)[day % WEEK], np.array(WEEKDAYS_BEFORE)[day % WEEK]
    )
    season = 1 + 0.25 * np.cos(2 * np.pi * (day / YEAR - 0.95))
    pull = 1 + np.where(after, 0.35, 0.7) * promotion
    noise = np.exp(_slow(0.06 * draw.standard_normal(DAYS)) + 0.06 * draw.standard_normal(DAYS))
    return Demand(np.round(level * weekday * season * pull * noise), promotion)


def _slow(shocks: np.ndarray, kept: float = 0.8) -> np.ndarray:
    """Shocks of which `kept` is left on the day after."""
    state, states = 0.0, []
    for shock in shocks:
        state = kept * state + shock
        states.append(state)
    return np.array(states)


def _splits(scaled: np.ndarray, promotion: np.ndarray) -> dict[SplitName, Split]:
    known = torch.tensor(_known(scaled, promotion), dtype=torch.float32)
    targets = torch.tensor(scaled[WINDOW:], dtype=torch.float32)
    bounds = [0, VALIDATION_DAY - WINDOW, TEST_DAY - WINDOW, len(targets)]
    names: tuple[SplitName, ...] = ("train", "validation", "test")
    return {
        name: Split(known[begin:end], targets[begin:end])
        for name, begin, end in zip(names, bounds, bounds[1:])  # noqa: B905 - pairs of neighbours
    }


def _known(scaled: np.ndarray, promotion: np.ndarray) -> np.ndarray:
    """For each day from WINDOW on: past demand, promotions up to the day, weekday and season."""
    past = np.lib.stride_tricks.sliding_window_view(scaled, WINDOW)[:-1]
    promotions = np.lib.stride_tricks.sliding_window_view(promotion, WINDOW + 1)
    day = np.arange(WINDOW, len(scaled))
    angle = 2 * np.pi * day / YEAR
    season = np.column_stack([np.sin(angle), np.cos(angle)])
    return np.concatenate([past, promotions, np.eye(WEEK)[day % WEEK], season], axis=1)


def _baselines(
    pieces: np.ndarray, splits: dict[SplitName, Split], mean: float, deviation: float
) -> dict[str, float]:
    actual = pieces[TEST_DAY:]
    train, test = (
        (split.inputs.double().numpy(), split.targets.double().numpy())
        for split in (splits["train"], splits["test"])
    )
    weights = np.linalg.lstsq(train[0], train[1], rcond=None)[0]
    linear = mean + deviation * (test[0] @ weights)
    return {
        "seasonal naive (same day last week)": _rmse(actual - pieces[TEST_DAY - WEEK : -WEEK]),
        "last value": _rmse(actual - pieces[TEST_DAY - 1 : -1]),
        "linear regression on the same inputs": _rmse(actual - linear),
    }


def _rmse(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(error**2)))
