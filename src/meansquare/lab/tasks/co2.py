"""Atmospheric CO2 at Mauna Loa, weekly, 1958-2001 (ships with statsmodels), and a small GRU."""

from __future__ import annotations

import numpy as np
import statsmodels.datasets.co2
import torch
from torch import Tensor, nn

from meansquare.lab.tasks import Facts, Split, SplitName

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


class CarbonDioxide:
    """One-step-ahead forecast; splits in time order, the future is never seen."""

    def __init__(self, level: np.ndarray, missing: int) -> None:
        self._level, self._missing = level, missing
        self._change = np.diff(level)
        self._ends = [int(share * len(self._change)) for share in (TRAIN_END, VALIDATION_END)]
        train = self._change[: self._ends[0]]
        self._deviation = float(train.std())
        self._scaled = torch.tensor(
            (self._change - train.mean()) / self._deviation, dtype=torch.float32
        )

    @property
    def facts(self) -> Facts:
        return Facts(
            name="co2",
            title="Atmospheric CO₂ at Mauna Loa",
            model=f"GRU with 24 units over {WINDOW} weekly changes, one linear readout",
            parameters=sum(weight.numel() for weight in self.model().parameters()),
            batch_size=32,
            sizes={
                "train": len(self.split("train").targets),
                "validation": len(self.split("validation").targets),
                "test": len(self.split("test").targets),
            },
            metric="test error (RMSE)",
            unit="ppm",
            higher_is_better=False,
            baselines=self._baselines(),
            notes=f"{len(self._level):,} weeks, 1958-2001 (statsmodels' co2), forecast one week "
            "ahead; first 70 % of the years for training, next 15 % for validation, last 15 % for "
            f"the test. {self._missing} missing weeks, all in training years, are interpolated. "
            "Changes are standardised with the training years' mean and deviation; squared-error "
            f"loss, in training on every week of a {WINDOW}-week window.",
        )

    def model(self) -> nn.Module:
        return WeeklyChange()

    def split(self, name: SplitName) -> Split:
        train_end, validation_end = self._ends
        if name == "train":
            starts = range(0, train_end - WINDOW, STRIDE)
            inputs = torch.stack([self._scaled[s : s + WINDOW] for s in starts])
            targets = torch.stack([self._scaled[s + 1 : s + WINDOW + 1] for s in starts])
            return Split(inputs.unsqueeze(-1), targets)
        if name == "validation":
            return self._forecasts(train_end, validation_end)
        return self._forecasts(validation_end, len(self._scaled))

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        # Evaluation targets hold one week, the window's last: earlier outputs were training inputs.
        return nn.functional.mse_loss(output[:, -target.shape[1] :], target)

    def metric(self, output: Tensor, target: Tensor) -> float:
        return self._deviation * float(self.loss(output, target).double().sqrt())

    def _forecasts(self, begin: int, end: int) -> Split:
        windows = [self._scaled[week - WINDOW : week] for week in range(begin, end)]
        return Split(torch.stack(windows).unsqueeze(-1), self._scaled[begin:end].unsqueeze(-1))

    def _baselines(self) -> dict[str, float]:
        train, begin = self._change[: self._ends[0]], self._ends[1]
        actual = self._change[begin:]
        year_ago = self._level[begin + 1 - WINDOW : -WINDOW]
        weights = np.linalg.lstsq(_lagged(train, WINDOW), train[WINDOW:], rcond=None)[0]
        linear = _lagged(self._change[begin - WINDOW :], WINDOW) @ weights
        return {
            "seasonal naive (same week last year)": _rmse(self._level[begin + 1 :] - year_ago),
            "last value": _rmse(actual),
            "linear autoregression on the same 52 weeks": _rmse(actual - linear),
        }


def load() -> CarbonDioxide:
    """The task with the Mauna Loa series in it."""
    series = statsmodels.datasets.co2.load_pandas()["data"]["co2"]
    return CarbonDioxide(series.interpolate().to_numpy(), int(series.isna().sum()))


def _lagged(series: np.ndarray, window: int) -> np.ndarray:
    rows = np.lib.stride_tricks.sliding_window_view(series, window)[:-1]
    return np.column_stack([rows, np.ones(len(rows))])


def _rmse(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(error**2)))
