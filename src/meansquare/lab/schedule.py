"""Who does the runs: a crew of training processes that hands out plans and leaves none behind."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Protocol

from meansquare.lab.errors import LabError
from meansquare.lab.record import Record
from meansquare.lab.setups import setup_of
from meansquare.lab.study import Plan

MOST_TRIES = 3  # of a run whose process ends: memory can be short for a moment


@dataclass(frozen=True)
class Started:
    worker: int
    plan: Plan


@dataclass(frozen=True)
class Epoch:
    worker: int
    plan: Plan
    number: int


@dataclass(frozen=True)
class Finished:
    worker: int
    plan: Plan
    record: Record


@dataclass(frozen=True)
class Lost:
    """A training process ended in mid-run; the run is done again."""

    worker: int
    plan: Plan
    how: str


Event = Started | Epoch | Finished | Lost


class Engine(Protocol):
    """Whoever does plans: leaving its `with` block ends all that it started."""

    def train(self, plans: Sequence[Plan]) -> Iterator[Event]:
        """Do all plans, started in order; yields events as they come, returns after the last."""
        ...

    def __enter__(self) -> Engine: ...

    def __exit__(self, *_: object) -> None: ...


@dataclass
class Worker:
    number: int
    process: BaseProcess
    pipe: Connection
    plan: Plan | None = None


@dataclass(frozen=True)
class Failure:
    """What a worker says of a run that raised: the fault of a task or an optimizer."""

    message: str


class Crew:
    """`jobs` processes with one thread each."""

    def __init__(self, jobs: int) -> None:
        self._workers = [_hire(number) for number in range(jobs)]
        self._tries: dict[tuple, int] = {}

    def train(self, plans: Sequence[Plan]) -> Iterator[Event]:
        waiting = list(reversed(plans))
        for worker in self._workers:
            yield from self._assign(worker, waiting)
        while busy := {worker.pipe: worker for worker in self._workers if worker.plan}:
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]
                yield from self._listen(worker, waiting)

    def _assign(self, worker: Worker, waiting: list[Plan]) -> Iterator[Event]:
        worker.plan = waiting.pop() if waiting else None
        if worker.plan:
            worker.pipe.send(worker.plan)
            yield Started(worker.number, worker.plan)

    def _listen(self, worker: Worker, waiting: list[Plan]) -> Iterator[Event]:
        plan = worker.plan
        assert plan is not None
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            yield self._replace(worker, plan)
            waiting.append(plan)
            yield from self._assign(self._workers[worker.number], waiting)
            return
        if isinstance(message, Failure):
            raise LabError(f"{describe(plan)}: {message.message}")
        if isinstance(message, Record):
            yield Finished(worker.number, plan, message)
            yield from self._assign(worker, waiting)
        else:
            yield Epoch(worker.number, plan, message)

    def _replace(self, worker: Worker, plan: Plan) -> Lost:
        """A new process in place of one that ended; LabError where that happens again and again."""
        worker.process.join(timeout=5)
        how = f"exit code {worker.process.exitcode}"
        worker.pipe.close()
        self._tries[plan.key] = self._tries.get(plan.key, 1) + 1
        if self._tries[plan.key] > MOST_TRIES:
            raise LabError(
                f"a training process ended {MOST_TRIES} times ({how}) in {describe(plan)}; "
                "finished runs are kept, run the same command again to continue."
            )
        self._workers[worker.number] = _hire(worker.number)
        return Lost(worker.number, plan, how)

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()


def describe(plan: Plan) -> str:
    """A plan in a few words, for messages."""
    settings = ", ".join(f"{name} {value:g}" for name, value in plan.settings.items())
    return f"{plan.task} with {plan.optimizer} ({settings}, seed {plan.seed})"


def _hire(number: int) -> Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    # Ctrl-C reaches the whole process group, but only the parent answers it. A child inherits
    # "ignore" from its first instruction on; setting it inside would leave a gap during imports.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, before)
    # With our copy closed, a worker's death reads as the end of our pipe, and ours as its end.
    theirs.close()
    return Worker(number, process, ours)


def _work(pipe: Connection) -> None:
    trainer = Trainer()
    try:
        while True:
            plan: Plan = pipe.recv()
            pipe.send(trainer.train(plan, pipe.send))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


class Trainer:
    """One thread that trains plans one after the other and keeps the data of their tasks."""

    def __init__(self) -> None:
        # Imported here, so that the parent can schedule without the packages that tasks need.
        import torch

        torch.set_num_threads(1)
        self._tasks = {}

    def train(self, plan: Plan, on_epoch=lambda epoch: None) -> Record | Failure:
        """The record of a run, or what its task or its optimizer raised."""
        from meansquare.lab.run import run
        from meansquare.lab.tasks.named import load_task

        try:
            if plan.task not in self._tasks:
                self._tasks[plan.task] = load_task(plan.task)
            return run(self._tasks[plan.task], setup_of(plan.optimizer), plan, on_epoch)
        except LabError as error:
            return Failure(str(error))
        except Exception as error:
            return Failure(f"{type(error).__name__}: {error}")
