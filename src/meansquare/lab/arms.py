"""An optimizer on a task, from its records: the setting chosen, the results and their interval."""

from __future__ import annotations

import statistics as plain
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from meansquare.lab.record import Folder, Record
from meansquare.lab.space import Settings
from meansquare.lab.statistics import Interval, Reached, Versus, best_so_far, bootstrap, middle
from meansquare.lab.study import Edge, edge_of, study_of

Verdict = Literal["best", "tie", "behind", "diverged", "undecided"]


@dataclass(frozen=True)
class Tried:
    """One tuning run: the settings and the loss they are chosen by, None when it diverged."""

    settings: Settings
    loss: float | None

    @property
    def lr(self) -> float:
        return self.settings["lr"]


@dataclass(frozen=True)
class Curves:
    """One final run, period by period."""

    seed: int
    train_loss: tuple[float, ...]
    validation_metric: tuple[float, ...]
    steps_at: tuple[int, ...]
    training_seconds_at: tuple[float, ...]
    series: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Arm:
    """One optimizer on one task. `mean` and `interval` exist only when every seed finished.

    For agents `mean` is the inter-quartile mean. `edge` is the border of the space, widened as far
    as the protocol allows, at which the best point still lies.
    """

    optimizer: str
    label: str
    settings: Settings | None
    edge: Edge | None
    tried: tuple[Tried, ...]
    best_so_far: tuple[tuple[float | None, ...], ...]
    curves: tuple[Curves, ...]
    scores: tuple[float | None, ...]
    mean: float | None
    deviation: float | None
    interval: Interval | None
    verdict: Verdict
    to_best: Versus | None
    reached: Reached
    step_us: float | None
    optimizer_share: float | None

    @property
    def lr(self) -> float | None:
        return self.settings["lr"] if self.settings else None

    @property
    def updates_per_second(self) -> float | None:
        """The median of the final runs, over model and optimizer together."""
        whole = [(c.steps_at[-1], c.training_seconds_at[-1]) for c in self.curves if c.steps_at]
        paces = [steps / seconds for steps, seconds in whole if seconds]
        return plain.median(paces) if paces else None

    @property
    def diverged_trials(self) -> int:
        return sum(trial.loss is None for trial in self.tried)

    @property
    def diverged_seeds(self) -> int:
        return sum(score is None for score in self.scores)


def choose(records: Iterable[Record]) -> dict[tuple[str, str], Settings]:
    """The settings with the lowest last validation loss per (task, optimizer).

    Of equal ones those with the smaller learning rate; a diverged run is never chosen: an optimizer
    that diverged everywhere is absent.
    """
    best: dict[tuple[str, str], Record] = {}
    for record in records:
        if record.phase == "tune" and record.status == "ok":
            place = (record.task, record.optimizer)
            best[place] = min(best.get(place, record), record, key=_preference)
    return {place: record.settings for place, record in best.items()}


def arm_of(name: str, folder: Folder, facts: Mapping[str, Any], records: list[Record]) -> Arm:
    tuned = sorted((r for r in records if r.phase == "tune"), key=lambda r: r.lr)
    finals = sorted((r for r in records if r.phase == "final"), key=lambda r: r.seed)
    scores = tuple(record.test_metric for record in finals)
    finished = [score for score in scores if score is not None]
    whole, trimmed = bool(scores) and len(finished) == len(scores), facts["kind"] == "agent"
    chosen = next(iter(choose(records).values()), None)
    all_tried = len(tuned) >= folder.protocol["budget"]
    lost = len(finished) < len(scores) if scores else chosen is None and all_tried
    return Arm(
        optimizer=name,
        label=folder.setups[name]["label"],
        settings=chosen,
        edge=_edge(folder, facts["name"], name),
        tried=tuple(Tried(r.settings, r.last_loss) for r in tuned),
        best_so_far=tuple(best_so_far([r.last_loss for r in tuned])) if tuned else (),
        curves=tuple(map(_curves, finals)),
        scores=scores,
        mean=middle(finished, trimmed) if whole else None,
        deviation=plain.stdev(finished) if whole and len(scores) > 1 else None,
        interval=bootstrap(finished, trimmed) if whole else None,
        verdict="diverged" if lost else "undecided",
        to_best=None,
        reached=Reached(0, None, None, None),
        step_us=plain.median(r.step_us for r in finals) if finals else None,
        optimizer_share=_share(finals),
    )


def _curves(record: Record) -> Curves:
    return Curves(
        record.seed,
        record.train_loss,
        record.validation_metric,
        record.steps_at,
        record.training_seconds_at,
        record.series,
    )


def _edge(folder: Folder, task: str, optimizer: str) -> Edge | None:
    study, losses = study_of(folder.protocol), folder.losses()
    trials = study.searched(task, optimizer, losses)
    keys = [study.tuning_run((task, optimizer), trial).key for trial in trials]
    if any(key not in losses for key in keys):
        return None
    return edge_of(trials, [losses[key] for key in keys])


def _share(records: Sequence[Record]) -> float | None:
    total = sum(record.training_seconds for record in records)
    return sum(record.optimizer_seconds for record in records) / total if total else None


def _preference(record: Record) -> tuple[Any, ...]:
    return (record.validation_loss[-1], record.lr, sorted(record.settings.items()))
