"""Atmospheric CO2 at Mauna Loa, weekly, 1958-2001 (ships with statsmodels), and a small GRU."""

from __future__ import annotations

import numpy as np
import statsmodels.datasets.co2
import torch
from torch import Tensor, nn

from meansquare.lab.tasks import Facts
from meansquare.lab.tasks.supervised import Split, SplitName, Supervised, count

WINDOW = 52
STRIDE = 7
TRAIN_END, VALIDATION_END = 0.70, 0.85


class WeeklyChange(nn.Module):
    """A GRU over weekly changes that predicts the next change at every step."""

    def __init__(self, hidden: int = 24) -> None:
        super().__init__()
        self.recurrent = nn.GRU(1, hidden, batch_first=True)
        self.readout = nn.Linear(hidden, 1)

    def forward(self, changes: Tensor) -> Tensor:
        return self.readout(self.recurrent(changes)[0]).squeeze(-1)


def load(name: str) -> Supervised:
    """The task with the Mauna Loa series in it: one week ahead, the future is never seen."""
    series = statsmodels.datasets.co2.load_pandas()["data"]["co2"]
    level, missing = series.interpolate().to_numpy(), int(series.isna().sum())
    change = np.diff(level)
    ends = [int(share * len(change)) for share in (TRAIN_END, VALIDATION_END)]
    mean, deviation = change[: ends[0]].mean(), float(change[: ends[0]].std())
    splits = _splits(torch.tensor((change - mean) / deviation, dtype=torch.float32), ends)
    facts = Facts(
        name=name,
        title="Atmospheric CO₂ at Mauna Loa",
        kind="forecast",
        model=f"GRU with 24 units over {WINDOW} weekly changes, one linear readout",
        parameters=count(WeeklyChange()),
        batch_size=32,
        sizes={part: len(split.targets) for part, split in splits.items()},
        metric="test error (RMSE)",
        unit="ppm",
        higher_is_better=False,
        baselines=_baselines(level, change, ends),
        target=0.39,
        notes=f"{len(level):,} weeks, 1958-2001 (statsmodels' co2), forecast one week "
        "ahead; first 70 % of the years for training, next 15 % for validation, last 15 % for "
        f"the test. {missing} missing weeks, all in training years, are interpolated. "
        "Changes are standardised with the training years' mean and deviation; squared-error "
        f"loss, in training on every week of a {WINDOW}-week window.",
    )

    def rmse(output: Tensor, target: Tensor) -> float:
        return deviation * float(_loss(output, target).double().sqrt())

    return Supervised(facts, WeeklyChange, splits, _loss, rmse)


def _loss(output: Tensor, target: Tensor) -> Tensor:
    # Evaluation targets hold one week, the window's last: earlier outputs were training inputs.
    return nn.functional.mse_loss(output[:, -target.shape[1] :], target)


def _splits(scaled: Tensor, ends: list[int]) -> dict[SplitName, Split]:
    starts = range(0, ends[0] - WINDOW, STRIDE)
    inputs = torch.stack([scaled[s : s + WINDOW] for s in starts])
    targets = torch.stack([scaled[s + 1 : s + WINDOW + 1] for s in starts])

    def forecasts(begin: int, end: int) -> Split:
        windows = [scaled[week - WINDOW : week] for week in range(begin, end)]
        return Split(torch.stack(windows).unsqueeze(-1), scaled[begin:end].unsqueeze(-1))

    return {
        "train": Split(inputs.unsqueeze(-1), targets),
        "validation": forecasts(*ends),
        "test": forecasts(ends[1], len(scaled)),
    }


def _baselines(level: np.ndarray, change: np.ndarray, ends: list[int]) -> dict[str, float]:
    train, begin = change[: ends[0]], ends[1]
    actual = change[begin:]
    year_ago = level[begin + 1 - WINDOW : -WINDOW]
    weights = np.linalg.lstsq(_lagged(train, WINDOW), train[WINDOW:], rcond=None)[0]
    linear = _lagged(change[begin - WINDOW :], WINDOW) @ weights
    return {
        "seasonal naive (same week last year)": _rmse(level[begin + 1 :] - year_ago),
        "last value": _rmse(actual),
        "linear autoregression on the same 52 weeks": _rmse(actual - linear),
    }


def _lagged(series: np.ndarray, window: int) -> np.ndarray:
    rows = np.lib.stride_tricks.sliding_window_view(series, window)[:-1]
    return np.column_stack([rows, np.ones(len(rows))])


def _rmse(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(error**2)))
