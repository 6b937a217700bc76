"""The only training loop of the lab: a task, a setup and a plan go in, a record comes out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from time import perf_counter

from torch import Tensor
from torch.optim import Optimizer

from meansquare.lab.environment import describe_environment
from meansquare.lab.record import Record
from meansquare.lab.schema import LARGEST
from meansquare.lab.setups import Setup
from meansquare.lab.study import Plan
from meansquare.lab.tasks import Problem, Task


class Diverged(Exception):  # noqa: N818 - a result, not an error
    """A number is past what a record holds, or a loss above `Facts.blow_up` times the first one."""


@dataclass
class Trace:
    """What a run leaves behind while it goes, whole or not; the `_at` are sums up to a period."""

    blow_up: float
    losses: list[float] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)
    training_seconds: float = 0.0
    train_loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_metric: list[float] = field(default_factory=list)
    steps_at: list[int] = field(default_factory=list)
    training_seconds_at: list[float] = field(default_factory=list)
    optimizer_seconds_at: list[float] = field(default_factory=list)
    test_metric: float | None = None


def run(
    task: Task, setup: Setup, plan: Plan, on_epoch: Callable[[int], None] = lambda epoch: None
) -> Record:
    """Train once. The seed alone decides weights and data order, so runs pair across optimizers.

    The test data are read only in the final phase, once, after the last period.
    """
    trace = Trace(task.facts.blow_up or math.inf)
    problem = task.start(plan.seed)
    optimizer = setup.build(problem.parameters(), plan.settings)
    try:
        for epoch in range(plan.epochs):
            _train(problem, optimizer, trace)
            _validate(problem, trace)
            on_epoch(epoch + 1)
        if plan.phase == "final":
            trace.test_metric = _bounded(problem.test())
        diverged_at = None
    except Diverged:
        diverged_at = len(trace.losses)
    return _record(plan, problem, trace, diverged_at)


def _train(problem: Problem, optimizer: Optimizer, trace: Trace) -> None:
    began, first = perf_counter(), len(trace.losses)
    for loss in problem.losses():
        _step(optimizer, loss, trace)
    trace.training_seconds += perf_counter() - began
    trace.train_loss.append(statistics.fmean(trace.losses[first:]))
    trace.steps_at.append(len(trace.step_seconds))
    trace.training_seconds_at.append(trace.training_seconds)
    trace.optimizer_seconds_at.append(math.fsum(trace.step_seconds))


def _step(optimizer: Optimizer, loss: Tensor, trace: Trace) -> None:
    value = _bounded(loss.item())
    if value > trace.blow_up * abs(next(iter(trace.losses), math.inf)):
        raise Diverged
    trace.losses.append(value)
    optimizer.zero_grad()
    loss.backward()
    began = perf_counter()
    optimizer.step()
    trace.step_seconds.append(perf_counter() - began)


def _validate(problem: Problem, trace: Trace) -> None:
    loss, metric = map(_bounded, problem.validate())
    trace.validation_loss.append(loss)
    trace.validation_metric.append(metric)


def _series(problem: Problem) -> dict[str, tuple[float, ...]]:
    """What the problem tells besides, up to the first number that a record does not hold.

    Rounded: it is for pictures.
    """
    series = problem.series()
    moments = zip(*series.values(), strict=True)
    told = list(takewhile(lambda moment: all(abs(value) <= LARGEST for value in moment), moments))
    columns = zip(*told, strict=True) if told else [()] * len(series)
    rounded = (tuple(float(f"{value:.6g}") for value in column) for column in columns)
    return dict(zip(series, rounded, strict=True))


def _bounded(value: float) -> float:
    if not abs(value) <= LARGEST:
        raise Diverged
    return value


def _record(plan: Plan, problem: Problem, trace: Trace, diverged_at: int | None) -> Record:
    # The first loss can be infinite already: with no weights moved, that is the task's doing.
    timed = trace.step_seconds or [0.0]
    return Record(
        phase=plan.phase,
        task=plan.task,
        optimizer=plan.optimizer,
        settings=dict(plan.settings),
        seed=plan.seed,
        epochs=plan.epochs,
        status="ok" if diverged_at is None else "diverged",
        diverged_at=diverged_at,
        train_loss=tuple(trace.train_loss),
        validation_loss=tuple(trace.validation_loss),
        validation_metric=tuple(trace.validation_metric),
        test_metric=trace.test_metric,
        series=_series(problem) if plan.phase == "final" else {},
        steps=len(trace.step_seconds),
        steps_at=tuple(trace.steps_at),
        step_us=1e6 * statistics.median(timed),
        optimizer_seconds=math.fsum(timed),
        optimizer_seconds_at=tuple(trace.optimizer_seconds_at),
        training_seconds=trace.training_seconds,
        training_seconds_at=tuple(trace.training_seconds_at),
        made_by=describe_environment(),
    )
