"""Yearly sunspot numbers, 1700-2008 (ship with statsmodels), and a small network of past years."""

from __future__ import annotations

import numpy as np
import statsmodels.datasets.sunspots
import torch
from torch import Tensor, nn

from meansquare.lab.tasks import Facts
from meansquare.lab.tasks.supervised import Split, SplitName, Supervised, count

WINDOW = 12
CYCLE = 11  # years, about
FIRST_YEAR, VALIDATION_YEAR, TEST_YEAR = 1700, 1921, 1956


class NextYear(nn.Module):
    """An MLP over the past years that predicts how the next year differs from the last."""

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(WINDOW, hidden),
            nn.Tanh(),
            nn.Linear(hidden, hidden),
            nn.Tanh(),
            nn.Linear(hidden, 1),
        )

    def forward(self, years: Tensor) -> Tensor:
        return years[:, -1] + self.layers(years).squeeze(-1)


def load(name: str) -> Supervised:
    """The task with the yearly numbers in it: one year ahead, the future is never seen."""
    numbers = statsmodels.datasets.sunspots.load_pandas()["data"]["SUNACTIVITY"].to_numpy()
    ends = [VALIDATION_YEAR - FIRST_YEAR, TEST_YEAR - FIRST_YEAR]
    mean, deviation = numbers[: ends[0]].mean(), float(numbers[: ends[0]].std())
    splits = _splits(torch.tensor((numbers - mean) / deviation, dtype=torch.float32), ends)
    facts = Facts(
        name=name,
        title="Sunspots",
        kind="forecast",
        model=f"MLP over {WINDOW} years, added to the last: two hidden layers of 32 tanh units",
        parameters=count(NextYear()),
        batch_size=16,
        sizes={part: len(split.targets) for part, split in splits.items()},
        metric="test error (RMSE)",
        unit="sunspots",
        higher_is_better=False,
        baselines=_baselines(numbers, ends),
        target=11.5,
        notes=f"{len(numbers)} yearly sunspot numbers, 1700-2008 (statsmodels' sunspots), forecast "
        f"one year ahead from the {WINDOW} years before; years before {VALIDATION_YEAR} for "
        f"training, from then for validation, from {TEST_YEAR} for the test (the years at which "
        "Weigend, Huberman & Rumelhart 1990 split). Standardised with the training years' mean and "
        "deviation; squared-error loss.",
    )

    def rmse(output: Tensor, target: Tensor) -> float:
        return deviation * float(nn.functional.mse_loss(output, target).double().sqrt())

    return Supervised(facts, NextYear, splits, nn.functional.mse_loss, rmse)


def _splits(scaled: Tensor, ends: list[int]) -> dict[SplitName, Split]:
    windows, targets = scaled.unfold(0, WINDOW, 1)[:-1], scaled[WINDOW:]
    bounds = [0, *(end - WINDOW for end in ends), len(targets)]
    names: tuple[SplitName, ...] = ("train", "validation", "test")
    return {
        name: Split(windows[begin:end], targets[begin:end])
        for name, begin, end in zip(names, bounds, bounds[1:])  # noqa: B905 - pairs of neighbours
    }


def _baselines(numbers: np.ndarray, ends: list[int]) -> dict[str, float]:
    actual = numbers[ends[1] :]
    rows = np.lib.stride_tricks.sliding_window_view(numbers, WINDOW)[:-1]
    lagged = np.column_stack([rows, np.ones(len(rows))])
    known = ends[0] - WINDOW
    weights = np.linalg.lstsq(lagged[:known], numbers[WINDOW : ends[0]], rcond=None)[0]
    return {
        "last value": _rmse(actual - numbers[ends[1] - 1 : -1]),
        f"seasonal naive ({CYCLE} years ago)": _rmse(actual - numbers[ends[1] - CYCLE : -CYCLE]),
        f"linear autoregression on the same {WINDOW} years": _rmse(
            actual - lagged[ends[1] - WINDOW :] @ weights
        ),
    }


def _rmse(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(error**2)))
