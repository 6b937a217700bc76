"""From records to a summary: verdicts, times to target, standings. Pure, no torch."""

from __future__ import annotations

import statistics as plain
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from meansquare.lab.arms import Arm, Verdict, arm_of
from meansquare.lab.record import Folder, Record
from meansquare.lab.statistics import (
    Reached,
    Versus,
    first_reaching,
    median_with_misses,
    ratios_to_best,
    versus,
)


@dataclass(frozen=True)
class TaskSummary:
    """All arms of a task, in the order asked for, with what the task says about itself.

    `target` is the validation metric that time-to-target waits for: the task's own, or else the
    median over seeds of the best arm's best one (of two medians, the one that more seeds reach).
    `lost_to_momentum` tells that a search of all settings of RMSProp, which contain Momentum's,
    came out behind Momentum: it was too small.
    """

    facts: Mapping[str, Any]
    arms: tuple[Arm, ...]
    target: float | None
    lost_to_momentum: bool

    @property
    def ranked(self) -> tuple[Arm, ...]:
        """Best mean first, arms without a mean last."""
        return ranked(self.arms, self.facts["higher_is_better"])


@dataclass(frozen=True)
class Standing:
    """An optimizer over all tasks: how often it has which verdict, and which rates it was given.

    `ratios` are its steps to each task's target as a multiple of the fastest optimizer's, None
    where it misses it: a performance profile counts how many are below a factor.
    """

    optimizer: str
    label: str
    verdicts: Mapping[str, int]
    rates: tuple[float, ...]
    ratios: tuple[float | None, ...]


@dataclass(frozen=True)
class Summary:
    """What the report shows; `environments` has one entry unless machines or versions mixed."""

    protocol: Mapping[str, Any]
    setups: Mapping[str, Mapping[str, str]]
    tasks: tuple[TaskSummary, ...]
    standings: tuple[Standing, ...]
    environments: tuple[Mapping[str, Any], ...]
    notices: tuple[str, ...]
    runs: int
    training_seconds: float


def summarize(folder: Folder) -> Summary:
    """Reduce the records of a run folder; places without a final run have no result yet."""
    environments: list[Mapping[str, Any]] = []
    for record in folder.records:
        if record.made_by not in environments:
            environments.append(record.made_by)
    tasks = tuple(_summarize_task(folder, task) for task in folder.protocol["tasks"])
    return Summary(
        protocol=folder.protocol,
        setups=folder.setups,
        tasks=tasks,
        standings=tuple(_standing(tasks, index) for index in range(len(tasks[0].arms))),
        environments=tuple(environments),
        notices=folder.notices,
        runs=len(folder.records),
        training_seconds=sum(record.training_seconds for record in folder.records),
    )


def ranked(arms: Iterable[Arm], higher_is_better: bool) -> tuple[Arm, ...]:
    """Best mean first, arms without a mean last."""
    sign = -1.0 if higher_is_better else 1.0
    return tuple(sorted(arms, key=lambda a: (a.mean is None, sign * (a.mean or 0.0))))


def _summarize_task(folder: Folder, task: str) -> TaskSummary:
    facts = folder.facts[task]
    records = [record for record in folder.records if record.task == task]
    arms = [
        arm_of(name, folder, facts, [record for record in records if record.optimizer == name])
        for name in folder.protocol["optimizers"]
    ]
    first = ranked(arms, facts["higher_is_better"])[0]
    target = facts["target"] if facts["target"] is not None else _best_seen(first, facts)
    judged = tuple(
        replace(_judged(arm, first, facts), reached=_reached(arm.optimizer, records, target, facts))
        for arm in arms
    )
    return TaskSummary(facts, judged, target, _lost_to_momentum(folder.protocol, judged, facts))


def _judged(arm: Arm, best: Arm, facts: Mapping[str, Any]) -> Arm:
    compared = against(arm, best, facts["higher_is_better"])
    # One seed has no interval to compare.
    if compared is None or len(arm.scores) < 2:
        return arm
    verdict: Verdict = "tie" if compared.interval.holds_zero else "behind"
    is_best = arm.optimizer == best.optimizer
    return replace(arm, verdict="best" if is_best else verdict, to_best=compared)


def against(arm: Arm, other: Arm, higher_is_better: bool) -> Versus | None:
    """Two arms by pairs of seeds; None unless every seed of both finished."""
    if arm.mean is None or other.mean is None or len(arm.scores) != len(other.scores):
        return None
    ours = [score for score in arm.scores if score is not None]
    theirs = [score for score in other.scores if score is not None]
    return versus(ours, theirs, higher_is_better)


def _best_seen(arm: Arm, facts: Mapping[str, Any]) -> float | None:
    """A metric that more than half of the arm's seeds reach."""
    higher = facts["higher_is_better"]
    best, median = (max, plain.median_low) if higher else (min, plain.median_high)
    seen = [best(c.validation_metric) for c in arm.curves if c.validation_metric]
    return median(seen) if seen else None


def _reached(
    name: str, records: Sequence[Record], target: float | None, facts: Mapping[str, Any]
) -> Reached:
    finals = [r for r in records if r.phase == "final" and r.optimizer == name]
    if target is None or not finals:
        return Reached(0, None, None, None)
    better = facts["higher_is_better"]
    at = [first_reaching(record.validation_metric, target, better) for record in finals]

    def of(name: str) -> float | None:
        pairs = zip(finals, at, strict=True)
        return median_with_misses([None if i is None else getattr(r, name)[i] for r, i in pairs])

    reached = sum(period is not None for period in at)
    return Reached(reached, of("steps_at"), of("training_seconds_at"), of("optimizer_seconds_at"))


def _lost_to_momentum(
    protocol: Mapping[str, Any], arms: Sequence[Arm], facts: Mapping[str, Any]
) -> bool:
    by_name = {arm.optimizer: arm for arm in arms}
    if protocol["search"] != "all" or not {"rmsprop", "momentum"} <= by_name.keys():
        return False
    compared = against(by_name["rmsprop"], by_name["momentum"], facts["higher_is_better"])
    return compared is not None and compared.interval.high < 0.0


def _standing(tasks: Sequence[TaskSummary], index: int) -> Standing:
    arms = [task.arms[index] for task in tasks]
    verdicts = [arm.verdict for arm in arms]
    ratios = [
        ratios_to_best({arm.optimizer: arm.reached.steps for arm in task.arms})[arm.optimizer]
        for task, arm in zip(tasks, arms, strict=True)
    ]
    return Standing(
        optimizer=arms[0].optimizer,
        label=arms[0].label,
        verdicts={verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))},
        rates=tuple(arm.lr for arm in arms if arm.lr is not None),
        ratios=tuple(ratios),
    )
