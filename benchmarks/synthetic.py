"""A made-up run folder of every kind of task, with all that can happen to a run in it."""

import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from meansquare.lab.arms import choose
from meansquare.lab.record import Folder, Record
from meansquare.lab.setups import USUAL, setup_of
from meansquare.lab.space import Search
from meansquare.lab.study import Plan, Study
from meansquare.lab.tasks import TASKS

# The rate at which an optimizer is best, as a power of ten.
BEST = {
    "rmsprop": -2.4, "sgd": -0.6, "momentum": -1.6, "nesterov": -1.5, "adagrad": -1.4, "adam": -2.6,
}  # fmt: skip
NAMES = tuple(name for name in TASKS if name not in ("phishing", "long-tail"))
MADE_BY = {
    "versions": {"torch": "2.13.0", "meansquare": None},
    "machine": {"platform": "Linux x86_64", "cpu": "Made-up CPU", "cores": 2},
    "commit": None,
}


def facts_of(name: str) -> dict[str, Any]:
    kind = TASKS[name].kind if name in TASKS else "own"
    loss_like = kind in ("forecast", "surface")
    return {
        "name": name, "title": f"{name.replace('-', ' ').capitalize()}, made up", "kind": kind,
        "model": "a model of 3 layers", "parameters": 12345, "batch_size": 32,
        "sizes": {"train": 1000, "validation": 200, "test": 200},
        "metric": "test error" if loss_like else "return" if kind == "agent" else "accuracy",
        "unit": "ppm" if loss_like else "points" if kind == "agent" else "%",
        "higher_is_better": not loss_like,
        "baselines": {} if kind == "surface" else {"a constant guess": 0.9 if loss_like else 40.0},
        "notes": "Made up: no optimizer was run.", "target": None,
        "epoch": {"agent": "2,000 frames", "stream": "500 examples"}.get(kind, "epoch"),
        "events": {"first drift": 5.0, "second drift": 12.5} if kind == "stream" else {},
        "blow_up": 1000.0, "scale": "log" if kind == "surface" else "linear",
    }  # fmt: skip


def folder(
    tasks: Sequence[str] = NAMES,
    optimizers: Sequence[str] = USUAL,
    budget: int = 9,
    seeds: int = 5,
    search: Search = "lr",
    periods: int = 20,
) -> Folder:
    """A finished folder, widened where the protocol asks for it."""
    epochs = dict.fromkeys(tasks, periods)
    study = Study(tuple(tasks), tuple(optimizers), budget, seeds, epochs, search)
    setups = {n: {"label": setup_of(n).label, "call": setup_of(n).call} for n in optimizers}
    runs: list[Record] = []

    def made() -> Folder:
        facts = {name: facts_of(name) for name in tasks}
        return Folder(Path(), study.protocol, facts, setups, tuple(runs))

    while missing := made().missing(study.tuning(made().losses())):
        runs.extend(map(run, missing))
    runs.extend(map(run, study.final(choose(runs))))
    return made()


def run(plan: Plan) -> Record:
    """A run whose loss depends on how far its rate is from the best one."""
    random = np.random.default_rng(zlib.crc32(repr(plan.key).encode()))
    kind = facts_of(plan.task)["kind"]
    diverged = diverges(plan)
    shares = np.arange(1, plan.epochs + 1) / plan.epochs
    floor = floor_of(plan)
    loss = floor + 2.0 * np.exp(-shares * 6) + np.abs(random.normal(0, 0.02, plan.epochs))
    if kind == "stream":
        loss += 0.5 * (np.exp(-((shares * 20 - 5) % 7.5)) * (shares > 0.25))
    metric = loss * 0.4 if not facts_of(plan.task)["higher_is_better"] else 100 * np.exp(-loss / 3)
    kept = slice(0, max(1, plan.epochs // 3) if diverged else plan.epochs)
    count = len(shares[kept])
    moments = {"x": (), "y": ()} if kind != "surface" else way(plan, random)
    seconds = [0.05 * n * (1 + 0.1 * len(plan.optimizer)) for n in range(1, count + 1)]
    tested = None if diverged or plan.phase == "tune" else float(metric[-1] + noise(plan, random))
    return Record(
        phase=plan.phase, task=plan.task, optimizer=plan.optimizer, settings=plan.settings,
        seed=plan.seed, epochs=plan.epochs, status="diverged" if diverged else "ok",
        diverged_at=count * 30 + 5 if diverged else None,
        train_loss=tuple(loss[kept].tolist()), validation_loss=tuple((1.1 * loss[kept]).tolist()),
        validation_metric=tuple(metric[kept].tolist()), test_metric=tested,
        series=moments if moments["x"] else {}, steps=count * 30,
        steps_at=tuple(30 * n for n in range(1, count + 1)), step_us=20.0 + 5 * len(plan.optimizer),
        optimizer_seconds=0.2 * seconds[-1], optimizer_seconds_at=tuple(0.2 * s for s in seconds),
        training_seconds=seconds[-1], training_seconds_at=tuple(seconds), made_by=MADE_BY,
    )  # fmt: skip


def noise(plan: Plan, random: np.random.Generator) -> float:
    """Exactly none on wine, where all tie; elsewhere that of the seed."""
    return 0.0 if plan.task == "wine" else float(random.normal(0, 0.01))


def diverges(plan: Plan) -> bool:
    above = math.log10(plan.settings["lr"]) - BEST.get(plan.optimizer, -2.0)
    everywhere = plan.task == "ravine" and plan.optimizer == "sgd"
    one_seed = (plan.task, plan.optimizer, plan.seed) == ("char-lstm", "momentum", 2)
    return above > 1.6 or everywhere or (one_seed and plan.phase == "final")


def floor_of(plan: Plan) -> float:
    """Where the loss ends: apart by optimizer and task, equal on wine, at an edge for one."""
    if plan.task == "wine" and plan.phase == "final":
        return 0.2
    best = BEST.get(plan.optimizer, -2.0)
    if (plan.task, plan.optimizer) == ("co2", "adagrad"):
        best = -9.0
    apart = zlib.crc32(f"{plan.task}{plan.optimizer}".encode()) % 5 * 0.08
    return 0.2 + apart + 0.1 * (math.log10(plan.settings["lr"]) - best) ** 2


def way(plan: Plan, random: np.random.Generator) -> dict[str, tuple[float, ...]]:
    """A spiral towards (1, 1), at a pace of the optimizer's own."""
    if plan.task == "moving-quadratic":
        return {"x": (), "y": ()}
    at = np.linspace(0, 1, 301)
    pace = 2 + zlib.crc32(plan.optimizer.encode()) % 5
    radius, turn = 1.6 * np.exp(-pace * at), random.uniform(0, 1) + pace * 2 * at
    return {
        "x": tuple((1 + radius * np.cos(turn)).tolist()),
        "y": tuple((1 + radius * np.sin(turn)).tolist()),
    }
