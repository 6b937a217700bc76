"""From records to a summary: choice of learning rates, intervals, verdicts. Pure, no torch."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from meansquare.lab.record import Folder, Record

Verdict = Literal["best", "tie", "behind", "diverged", "undecided"]
Edge = Literal["lowest", "highest"]

RESAMPLES = 10_000
CONFIDENCE = 0.95


class Interval(NamedTuple):
    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True)
class Trial:
    """One tuning run: the learning rate and its last validation loss, None when it diverged."""

    lr: float
    loss: float | None


@dataclass(frozen=True)
class Arm:
    """One optimizer on one task. `mean` and `interval` exist only when every seed finished."""

    optimizer: str
    label: str
    lr: float | None
    edge: Edge | None
    trials: tuple[Trial, ...]
    curves: tuple[tuple[float, ...], ...]
    scores: tuple[float | None, ...]
    mean: float | None
    interval: Interval | None
    verdict: Verdict
    step_us: float | None
    optimizer_share: float | None

    @property
    def diverged_trials(self) -> int:
        return sum(trial.loss is None for trial in self.trials)

    @property
    def diverged_seeds(self) -> int:
        return sum(score is None for score in self.scores)


@dataclass(frozen=True)
class TaskSummary:
    """All arms of a task, in the order asked for, with what the task says about itself."""

    facts: Mapping[str, Any]
    arms: tuple[Arm, ...]

    @property
    def ranked(self) -> tuple[Arm, ...]:
        """Best mean first, arms without a mean last."""
        sign = -1.0 if self.facts["higher_is_better"] else 1.0
        return tuple(
            sorted(
                self.arms, key=lambda a: (a.mean is None, 0.0 if a.mean is None else sign * a.mean)
            )
        )


@dataclass(frozen=True)
class Summary:
    """What the report shows; `environments` has one entry unless machines or versions mixed."""

    protocol: Mapping[str, Any]
    setups: Mapping[str, Mapping[str, str]]
    tasks: tuple[TaskSummary, ...]
    environments: tuple[Mapping[str, Any], ...]
    runs: int
    training_seconds: float


def summarize(folder: Folder) -> Summary:
    """Reduce the records of a finished run folder."""
    environments: list[Mapping[str, Any]] = []
    for record in folder.records:
        if record.made_by not in environments:
            environments.append(record.made_by)
    return Summary(
        protocol=folder.protocol,
        setups=folder.setups,
        tasks=tuple(_summarize_task(folder, task) for task in folder.protocol["tasks"]),
        environments=tuple(environments),
        runs=len(folder.records),
        training_seconds=sum(record.training_seconds for record in folder.records),
    )


def choose(records: Iterable[Record]) -> dict[tuple[str, str], float]:
    """The rate with the lowest last validation loss per (task, optimizer); on a tie the smaller.

    A diverged run is never chosen: an optimizer that diverged at every rate is absent.
    """
    best: dict[tuple[str, str], tuple[float, float]] = {}
    for record in records:
        if record.phase == "tune" and record.status == "ok":
            place = (record.task, record.optimizer)
            candidate = (record.validation_loss[-1], record.lr)
            best[place] = min(best.get(place, candidate), candidate)
    return {place: lr for place, (_, lr) in best.items()}


def bootstrap(scores: Sequence[float]) -> Interval:
    """Percentile interval of the mean over resampled seeds; the generator's seed is fixed."""
    generator = np.random.default_rng(0)
    draws = generator.choice(np.asarray(scores), (RESAMPLES, len(scores))).mean(axis=1)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(draws, [tail, 100 - tail])
    return Interval(float(low), float(high))


def _summarize_task(folder: Folder, task: str) -> TaskSummary:
    facts = folder.facts[task]
    records = [record for record in folder.records if record.task == task]
    arms = tuple(
        _arm(name, folder, [record for record in records if record.optimizer == name])
        for name in folder.protocol["optimizers"]
    )
    return TaskSummary(facts, _judge(TaskSummary(facts, arms).ranked, arms))


def _arm(name: str, folder: Folder, records: list[Record]) -> Arm:
    lr = next(iter(choose(records).values()), None)
    tuned = sorted((r for r in records if r.phase == "tune"), key=lambda r: r.lr)
    finals = sorted((r for r in records if r.phase == "final"), key=lambda r: r.seed)
    scores = tuple(record.test_metric for record in finals)
    finished = [score for score in scores if score is not None]
    whole = bool(scores) and len(finished) == len(scores)
    return Arm(
        optimizer=name,
        label=folder.setups[name]["label"],
        lr=lr,
        edge=_edge(lr, folder.protocol["learning_rates"]),
        trials=tuple(Trial(r.lr, _last_loss(r)) for r in tuned),
        curves=tuple(record.train_loss for record in finals),
        scores=scores,
        mean=statistics.fmean(finished) if whole else None,
        interval=bootstrap(finished) if whole else None,
        verdict="undecided" if whole else "diverged",
        step_us=statistics.median(r.step_us for r in finals) if finals else None,
        optimizer_share=_share(finals),
    )


def _last_loss(record: Record) -> float | None:
    return record.validation_loss[-1] if record.status == "ok" else None


def _edge(lr: float | None, rates: Sequence[float]) -> Edge | None:
    if lr == min(rates):
        return "lowest"
    return "highest" if lr == max(rates) else None


def _share(records: Sequence[Record]) -> float | None:
    total = sum(record.training_seconds for record in records)
    return sum(record.optimizer_seconds for record in records) / total if total else None


def _judge(ranked: Sequence[Arm], arms: Sequence[Arm]) -> tuple[Arm, ...]:
    best = ranked[0]
    return tuple(_with_verdict(arm, best) for arm in arms)


def _with_verdict(arm: Arm, best: Arm) -> Arm:
    # One seed has no interval to compare.
    if arm.interval is None or best.interval is None or len(arm.scores) < 2:
        return arm
    verdict: Verdict = "tie" if arm.interval.overlaps(best.interval) else "behind"
    return replace(arm, verdict="best" if arm.optimizer == best.optimizer else verdict)
