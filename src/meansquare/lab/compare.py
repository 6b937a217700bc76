"""From records to a summary: choices, intervals, verdicts, times to target. Pure, no torch."""

from __future__ import annotations

import statistics as plain
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from meansquare.lab.record import Folder, Record
from meansquare.lab.space import Settings
from meansquare.lab.statistics import (
    Interval,
    Reached,
    Versus,
    best_so_far,
    bootstrap,
    first_reaching,
    median_with_misses,
    middle,
    ratios_to_best,
    versus,
)
from meansquare.lab.study import Edge, Study, edge_of

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


def study_of(protocol: Mapping[str, Any]) -> Study:
    """The study that a folder's header describes."""
    return Study(
        tasks=tuple(protocol["tasks"]),
        optimizers=tuple(protocol["optimizers"]),
        budget=protocol["budget"],
        seeds=protocol["seeds"],
        epochs=protocol["epochs"],
        search=protocol["search"],
    )


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


def ranked(arms: Iterable[Arm], higher_is_better: bool) -> tuple[Arm, ...]:
    """Best mean first, arms without a mean last."""
    sign = -1.0 if higher_is_better else 1.0
    return tuple(sorted(arms, key=lambda a: (a.mean is None, sign * (a.mean or 0.0))))


def _preference(record: Record) -> tuple[Any, ...]:
    return (record.validation_loss[-1], record.lr, sorted(record.settings.items()))


def _summarize_task(folder: Folder, task: str) -> TaskSummary:
    facts = folder.facts[task]
    records = [record for record in folder.records if record.task == task]
    arms = [
        _arm(name, folder, facts, [record for record in records if record.optimizer == name])
        for name in folder.protocol["optimizers"]
    ]
    first = ranked(arms, facts["higher_is_better"])[0]
    target = facts["target"] if facts["target"] is not None else _best_seen(first, facts)
    judged = tuple(
        replace(_judged(arm, first, facts), reached=_reached(arm.optimizer, records, target, facts))
        for arm in arms
    )
    return TaskSummary(facts, judged, target, _lost_to_momentum(folder.protocol, judged, facts))


def _arm(name: str, folder: Folder, facts: Mapping[str, Any], records: list[Record]) -> Arm:
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
