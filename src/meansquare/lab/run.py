"""The only training loop of the lab: a task, a setup and a plan go in, a record comes out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from meansquare.lab.environment import describe_environment
from meansquare.lab.record import Record
from meansquare.lab.setups import Setup
from meansquare.lab.study import DIVERGENCE_MULTIPLE, Plan
from meansquare.lab.tasks import Split, Task


class Diverged(Exception):  # noqa: N818 - a result, not an error
    """The loss is not finite or above `DIVERGENCE_MULTIPLE` times the first batch's."""


@dataclass
class Trace:
    """What a run leaves behind while it goes, whole or not."""

    losses: list[float] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)
    training_seconds: float = 0.0
    train_loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_metric: list[float] = field(default_factory=list)
    test_metric: float | None = None


def run(
    task: Task, setup: Setup, plan: Plan, on_epoch: Callable[[int], None] = lambda epoch: None
) -> Record:
    """Train once. The seed alone decides weights and data order, so runs pair across optimizers.

    The test split is read only in the final phase, once, after the last epoch.
    """
    trace = Trace()
    try:
        _train(task, setup, plan, trace, on_epoch)
        diverged_at = None
    except Diverged:
        diverged_at = len(trace.losses)
    return _record(plan, trace, diverged_at)


def _train(
    task: Task, setup: Setup, plan: Plan, trace: Trace, on_epoch: Callable[[int], None]
) -> None:
    torch.manual_seed(plan.seed)
    model = task.model()
    optimizer = setup.build(model.parameters(), plan.lr)
    order = torch.Generator().manual_seed(plan.seed)
    train = task.split("train")
    _validate(task, model, trace)
    for epoch in range(plan.epochs):
        began, first = perf_counter(), len(trace.losses)
        for batch in _batches(train, task.facts.batch_size, order):
            _step(task, model, optimizer, batch, trace)
        trace.training_seconds += perf_counter() - began
        trace.train_loss.append(statistics.fmean(trace.losses[first:]))
        _validate(task, model, trace)
        on_epoch(epoch + 1)
    if plan.phase == "final":
        trace.test_metric = _evaluate(task, model, task.split("test"))[1]


def _batches(split: Split, size: int, order: torch.Generator) -> Iterator[Split]:
    for chosen in torch.randperm(len(split.targets), generator=order).split(size):
        yield Split(split.inputs[chosen], split.targets[chosen])


def _step(task: Task, model: nn.Module, optimizer: Optimizer, batch: Split, trace: Trace) -> None:
    optimizer.zero_grad()
    loss = task.loss(model(batch.inputs), batch.targets)
    value = loss.item()
    if _is_divergence(value, trace):
        raise Diverged
    trace.losses.append(value)
    loss.backward()
    began = perf_counter()
    optimizer.step()
    trace.step_seconds.append(perf_counter() - began)


def _is_divergence(loss: float, trace: Trace) -> bool:
    first = trace.losses[0] if trace.losses else math.inf
    return not math.isfinite(loss) or loss > DIVERGENCE_MULTIPLE * first


def _validate(task: Task, model: nn.Module, trace: Trace) -> None:
    loss, metric = _evaluate(task, model, task.split("validation"))
    trace.validation_loss.append(loss)
    trace.validation_metric.append(metric)


@torch.no_grad()
def _evaluate(task: Task, model: nn.Module, split: Split) -> tuple[float, float]:
    output: Tensor = model(split.inputs)
    loss, metric = task.loss(output, split.targets).item(), task.metric(output, split.targets)
    if not (math.isfinite(loss) and math.isfinite(metric)):
        raise Diverged
    return loss, metric


def _record(plan: Plan, trace: Trace, diverged_at: int | None) -> Record:
    return Record(
        phase=plan.phase,
        task=plan.task,
        optimizer=plan.optimizer,
        lr=plan.lr,
        seed=plan.seed,
        epochs=plan.epochs,
        status="ok" if diverged_at is None else "diverged",
        diverged_at=diverged_at,
        first_loss=trace.losses[0],
        train_loss=tuple(trace.train_loss),
        validation_loss=tuple(trace.validation_loss),
        validation_metric=tuple(trace.validation_metric),
        test_metric=trace.test_metric,
        steps=len(trace.step_seconds),
        step_us=1e6 * statistics.median(trace.step_seconds),
        optimizer_seconds=sum(trace.step_seconds),
        training_seconds=trace.training_seconds,
        made_by=describe_environment(),
    )
