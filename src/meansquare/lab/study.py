"""A study: what is compared, by which protocol, as one frozen value that is checked and hashed."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from meansquare.lab.setups import setup_of
from meansquare.lab.space import (
    HIGHEST_RATE,
    LOWEST_RATE,
    Search,
    Settings,
    beyond,
    even_rates,
    points,
)

Phase = Literal["tune", "final"]
Edge = Literal["lowest", "highest"]
Place = tuple[str, str]

TUNING_SEED = 0
MOST_WIDENINGS = 3  # of a space whose best point stays at its border
EVERY_SETTING_FROM = 16  # trials on: fewer are spent on the learning rate alone


class Trial(NamedTuple):
    """A point of the search space and its rate, by which the border is told."""

    rate: float
    settings: Settings


@dataclass(frozen=True)
class Plan:
    """One run to do; its fields name it, and no two runs of a study have the same ones."""

    phase: Phase
    task: str
    optimizer: str
    settings: Settings
    seed: int
    epochs: int

    @property
    def key(self) -> tuple[Any, ...]:
        return key_of(self.phase, self.task, self.optimizer, self.settings, self.seed)


def key_of(phase: str, task: str, optimizer: str, settings: Settings, seed: int) -> tuple[Any, ...]:
    """What tells a run from all others of its study."""
    return (phase, task, optimizer, tuple(sorted(settings.items())), seed)


@dataclass(frozen=True)
class Study:
    """Everything that decides the result; only runs of equal studies go into one folder."""

    tasks: tuple[str, ...]
    optimizers: tuple[str, ...]
    budget: int
    seeds: int
    epochs: Mapping[str, int]
    search: Search = "lr"

    @property
    def protocol(self) -> dict[str, Any]:
        """The study as JSON, with the constants of the lab that it depends on."""
        return {
            "tasks": list(self.tasks),
            "optimizers": list(self.optimizers),
            "budget": self.budget,
            "seeds": self.seeds,
            "epochs": dict(self.epochs),
            "search": self.search,
            "rates": [LOWEST_RATE, HIGHEST_RATE],
            "axes": {
                name: [axis.facts for axis in setup_of(name).axes] if self.search == "all" else []
                for name in self.optimizers
            },
            "tuning_seed": TUNING_SEED,
            "most_widenings": MOST_WIDENINGS,
        }

    @property
    def command(self) -> str:
        """The command line that does this study, without the folder."""
        lengths = set(self.epochs.values())
        return (
            f"meansquare compare {' '.join(map(shlex.quote, self.tasks))}"
            f" --optimizers {','.join(self.optimizers)} --search {self.search}"
            f" --budget {self.budget} --seeds {self.seeds}"
            + (f" --epochs {lengths.pop()}" if len(lengths) == 1 else "")
        )

    def trials(self, optimizer: str) -> tuple[Trial, ...]:
        """The first `budget` points of an optimizer's space."""
        rates = even_rates(self.budget)
        return self._points(optimizer, rates, 0)

    def wider(self, optimizer: str, known: Sequence[Trial], edge: Edge) -> tuple[Trial, ...]:
        """A quarter of the budget more, past an edge of the points that are known."""
        rates = sorted(trial.rate for trial in known)
        more = beyond(rates, edge, max(1, self.budget // 4))
        return self._points(optimizer, more, len(known))

    def tuning(self, losses: Mapping[tuple[Any, ...], float | None]) -> list[Plan]:
        """The tuning runs that are known to be needed, given the losses of those done.

        One per task, optimizer and point; more where all points of a place are done and the best
        lies at a border. Tasks alternate so that the time left is even.
        """
        searched = {
            (task, optimizer): self.searched(task, optimizer, losses)
            for optimizer in self.optimizers
            for task in self.tasks
        }
        most = max(map(len, searched.values()))
        return [
            self.tuning_run(place, trials[number])
            for number in range(most)
            for place, trials in searched.items()
            if number < len(trials)
        ]

    def searched(
        self, task: str, optimizer: str, losses: Mapping[tuple[Any, ...], float | None]
    ) -> list[Trial]:
        """The points of one place, with those past its border as far as the losses ask for them."""
        trials = list(self.trials(optimizer))
        for _ in range(MOST_WIDENINGS):
            keys = [self.tuning_run((task, optimizer), trial).key for trial in trials]
            if any(key not in losses for key in keys):
                break
            edge = edge_of(trials, [losses[key] for key in keys])
            if edge is None:
                break
            trials += self.wider(optimizer, trials, edge)
        return trials

    def final(self, chosen: Mapping[Place, Settings]) -> list[Plan]:
        """Paired seeds 1..n with the chosen settings; without a choice, no run."""
        return [
            Plan("final", task, optimizer, chosen[task, optimizer], seed, self.epochs[task])
            for seed in range(1, self.seeds + 1)
            for optimizer in self.optimizers
            for task in self.tasks
            if (task, optimizer) in chosen
        ]

    def _points(self, optimizer: str, rates: Sequence[float], first: int) -> tuple[Trial, ...]:
        axes = setup_of(optimizer).axes if self.search == "all" else ()
        return tuple(map(Trial, rates, points(axes, rates, first)))

    def tuning_run(self, place: Place, trial: Trial) -> Plan:
        """The run that tries a point."""
        task, optimizer = place
        return Plan("tune", task, optimizer, trial.settings, TUNING_SEED, self.epochs[task])


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


def best_of(losses: Sequence[float | None]) -> int | None:
    """The index of the lowest loss, the first of equal ones; None when all diverged."""
    found = [(loss, index) for index, loss in enumerate(losses) if loss is not None]
    return min(found)[1] if found else None


def edge_of(trials: Sequence[Trial], losses: Sequence[float | None]) -> Edge | None:
    """The border at which the best point lies; where all diverged, the lowest."""
    best = best_of(losses)
    rates = [trial.rate for trial in trials]
    if best is None or rates[best] == min(rates):
        return "lowest"
    return "highest" if rates[best] == max(rates) else None


def fingerprint(protocol: Mapping[str, Any]) -> str:
    """Twelve hex digits that are equal exactly when two protocols are."""
    canonical = json.dumps(protocol, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def places(study: Study) -> Iterator[Place]:
    """Every task with every optimizer."""
    return ((task, optimizer) for task in study.tasks for optimizer in study.optimizers)
