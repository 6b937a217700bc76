"""A crew of training processes: hands out plans, passes on what they report, leaves none behind."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from meansquare.lab.errors import LabError
from meansquare.lab.record import Record
from meansquare.lab.setups import setup_of
from meansquare.lab.study import Plan


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


Event = Started | Epoch | Finished


@dataclass
class Worker:
    number: int
    process: BaseProcess
    pipe: Connection
    plan: Plan | None = None


class Crew:
    """`jobs` processes with one thread each; leaving the `with` block ends them at once."""

    def __init__(self, jobs: int) -> None:
        self._workers = [_hire(number) for number in range(jobs)]

    def train(self, plans: Sequence[Plan]) -> Iterator[Event]:
        """Do all plans, started in order; yields events as they come and returns after the last."""
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
        except (EOFError, OSError) as error:
            raise _lost(worker, plan) from error
        if isinstance(message, Record):
            yield Finished(worker.number, plan, message)
            yield from self._assign(worker, waiting)
        else:
            yield Epoch(worker.number, plan, message)

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()


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


def _lost(worker: Worker, plan: Plan) -> LabError:
    worker.process.join(timeout=5)
    return LabError(
        f"a training process ended (exit code {worker.process.exitcode}) in {plan.task} with "
        f"{plan.optimizer}, lr {plan.lr:g}, seed {plan.seed}; finished runs are kept,"
        " run the same command again to continue."
    )


def _work(pipe: Connection) -> None:
    try:
        _serve(pipe)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _serve(pipe: Connection) -> None:
    # Imported here, so that the parent can schedule without the packages that tasks need.
    import torch

    from meansquare.lab.run import run
    from meansquare.lab.tasks import load_task

    torch.set_num_threads(1)
    tasks = {}
    while True:
        plan: Plan = pipe.recv()
        task = tasks.get(plan.task) or tasks.setdefault(plan.task, load_task(plan.task))
        pipe.send(run(task, setup_of(plan.optimizer), plan, on_epoch=pipe.send))
