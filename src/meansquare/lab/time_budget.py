"""A study cut down to a time: fewer seeds first, then fewer points, then shorter training."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from meansquare.lab import record
from meansquare.lab.errors import LabError
from meansquare.lab.setups import setup_of
from meansquare.lab.study import Plan, Study, study_of

LEAST_SEEDS, LEAST_BUDGET, LEAST_SHARE = 3, 5, 0.1
START_SECONDS = 8.0  # of the processes, and of the report
RESERVE = 1.25  # points past a border, and cores that slow each other down


def fitted(study: Study, out: Path, seconds: float, jobs: int, console: Console) -> Study:
    """The largest study like this one that `seconds` are expected to be enough for.

    A folder that has been begun keeps its study. LabError where even the smallest takes longer.
    """
    if record.exists(out):
        begun = study_of(record.load(out).protocol)
        if (begun.tasks, begun.optimizers) == (study.tasks, study.optimizers):
            return begun
    costs = measured(study)
    for smaller in _smaller(study):
        if expected(smaller, costs, jobs) <= seconds:
            _tell(study, smaller, expected(smaller, costs, jobs), console)
            return smaller
    least = expected(list(_smaller(study))[-1], costs, jobs)
    raise LabError(
        f"--time-budget: {seconds:.0f} s are too short, the smallest plan takes about {least:.0f} "
        "s; name fewer tasks or optimizers."
    )


def measured(study: Study) -> dict[str, float]:
    """Seconds per period of each task, with the study's first optimizer."""
    from meansquare.lab.run import run
    from meansquare.lab.tasks.named import load_task

    costs = {}
    optimizer = study.optimizers[0]
    for name in study.tasks:
        task, settings = load_task(name), study.trials(optimizer)[0].settings
        began = time.perf_counter()
        run(task, setup_of(optimizer), Plan("tune", name, optimizer, settings, 0, 1))
        costs[name] = time.perf_counter() - began
    return costs


def expected(study: Study, costs: Mapping[str, float], jobs: int) -> float:
    """Seconds that a study is expected to take, from the seconds per period of its tasks."""
    runs = len(study.optimizers) * (study.budget + study.seeds)
    periods = sum(costs[name] * study.epochs[name] for name in study.tasks)
    return START_SECONDS + RESERVE * runs * periods / jobs


def _smaller(study: Study) -> Iterator[Study]:
    yield study
    for seeds in range(study.seeds - 1, LEAST_SEEDS - 1, -1):
        study = replace(study, seeds=seeds)
        yield study
    for budget in range(study.budget - 1, LEAST_BUDGET - 1, -1):
        study = replace(study, budget=budget)
        yield study
    full = study.epochs
    for percent in range(95, round(100 * LEAST_SHARE) - 1, -5):
        epochs = {name: max(1, round(percent / 100 * full[name])) for name in full}
        yield replace(study, epochs=epochs)


def _tell(asked: Study, study: Study, seconds: float, console: Console) -> None:
    share = sum(study.epochs.values()) / sum(asked.epochs.values())
    console.print(
        f"Plan for about {seconds:.0f} s: {study.budget} settings, {study.seeds} seeds, "
        f"{100 * share:.0f} % of the epochs.",
        highlight=False,
    )
