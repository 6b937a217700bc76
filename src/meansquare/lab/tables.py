"""The summary as CSV files, for a spreadsheet or a notebook: runs, arms, curves."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from meansquare.lab.arms import Arm
from meansquare.lab.compare import Summary, TaskSummary

Row = Sequence[Any]
ARM_COLUMNS = (
    "task", "kind", "optimizer", "label", "verdict", "metric", "unit", "higher_is_better",
    "mean", "interval_low", "interval_high", "standard_deviation", "seeds", "diverged_seeds",
    "trials", "diverged_trials", "edge", "gain_to_best", "gain_low", "gain_high",
    "chance_to_beat_best", "target", "seeds_at_target", "steps_to_target", "seconds_to_target",
    "optimizer_seconds_to_target", "samples_to_target", "step_us", "optimizer_share",
    "updates_per_second",
)  # fmt: skip
RUN_COLUMNS = ("task", "optimizer", "phase", "seed", "status", "validation_loss", "test_metric")
CURVE_COLUMNS = (
    "task", "optimizer", "seed", "period", "steps", "training_seconds", "train_loss",
    "validation_metric",
)  # fmt: skip


def tables(summary: Summary) -> dict[str, bytes]:
    """By file name, the tables of runs, of arms (an optimizer on a task) and of final curves."""
    names = _setting_names(summary)
    return {
        "runs.csv": _csv((*RUN_COLUMNS, *names), _runs(summary, names)),
        "arms.csv": _csv((*ARM_COLUMNS, *names), _arms(summary, names)),
        "curves.csv": _csv(CURVE_COLUMNS, _curves(summary)),
    }


def _csv(header: Row, rows: Iterable[Row]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()


def _setting_names(summary: Summary) -> tuple[str, ...]:
    axes = summary.protocol["axes"].values()
    return ("lr", *sorted({axis["name"] for searched in axes for axis in searched}))


def _places(summary: Summary) -> Iterator[tuple[TaskSummary, Arm]]:
    return ((task, arm) for task in summary.tasks for arm in task.arms)


def _settings(settings: Mapping[str, float] | None, names: Sequence[str]) -> list[float | None]:
    return [(settings or {}).get(name) for name in names]


def _runs(summary: Summary, names: Sequence[str]) -> Iterator[Row]:
    seed = summary.protocol["tuning_seed"]
    for task, arm in _places(summary):
        place, chosen = (task.facts["name"], arm.optimizer), _settings(arm.settings, names)
        for trial in arm.tried:
            ended, values = _status(trial.loss), _settings(trial.settings, names)
            yield (*place, "tune", seed, ended, trial.loss, None, *values)
        for curve, score in zip(arm.curves, arm.scores, strict=True):
            yield (*place, "final", curve.seed, _status(score), None, score, *chosen)


def _status(result: float | None) -> str:
    return "diverged" if result is None else "ok"


def _arms(summary: Summary, names: Sequence[str]) -> Iterator[Row]:
    for task, arm in _places(summary):
        facts, versus = task.facts, arm.to_best
        compared = (versus.gain, *versus.interval, versus.chance) if versus else (None,) * 4
        yield (
            facts["name"], facts["kind"], arm.optimizer, arm.label, arm.verdict, facts["metric"],
            facts["unit"], facts["higher_is_better"], arm.mean, *(arm.interval or (None, None)),
            arm.deviation, len(arm.scores), arm.diverged_seeds, len(arm.tried),
            arm.diverged_trials, arm.edge, *compared, task.target, *arm.reached,
            _samples(arm, task), arm.step_us, arm.optimizer_share, arm.updates_per_second,
            *_settings(arm.settings, names),
        )  # fmt: skip


def _samples(arm: Arm, task: TaskSummary) -> float | None:
    """Examples seen on the way to the target; the last batch of an epoch counts as a full one."""
    steps = arm.reached.steps
    return None if steps is None else steps * task.facts["batch_size"]


def _curves(summary: Summary) -> Iterator[Row]:
    for task, arm in _places(summary):
        for curve in arm.curves:
            columns = zip_longest(
                curve.steps_at,
                curve.training_seconds_at,
                curve.train_loss,
                curve.validation_metric,
            )
            for period, values in enumerate(columns, start=1):
                yield (task.facts["name"], arm.optimizer, curve.seed, period, *values)
