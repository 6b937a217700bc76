"""A study: what is compared, by which protocol, as one frozen value that is checked and hashed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Phase = Literal["tune", "final"]

LOWEST_EXPONENT, HIGHEST_EXPONENT = -3.5, 0.5
TUNING_SEED = 0
# RMSProp's undebiased first step, 10 * lr, multiplies the first loss by up to 30 in runs that
# recover, and runs past 1000 never learned anything (measured on both tasks).
DIVERGENCE_MULTIPLE = 1000.0


@dataclass(frozen=True)
class Plan:
    """One run to do; its fields name it, and no two runs of a study have the same ones."""

    phase: Phase
    task: str
    optimizer: str
    lr: float
    seed: int
    epochs: int


@dataclass(frozen=True)
class Study:
    """Everything that decides the result; only runs of equal studies go into one folder."""

    tasks: tuple[str, ...]
    optimizers: tuple[str, ...]
    budget: int
    seeds: int
    epochs: Mapping[str, int]

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """`budget` rates, evenly spaced in log10 over the same range for every optimizer."""
        if self.budget == 1:
            exponents = [(LOWEST_EXPONENT + HIGHEST_EXPONENT) / 2]
        else:
            spacing = (HIGHEST_EXPONENT - LOWEST_EXPONENT) / (self.budget - 1)
            exponents = [LOWEST_EXPONENT + spacing * index for index in range(self.budget)]
        return tuple(float(f"{10**exponent:.6g}") for exponent in exponents)

    @property
    def protocol(self) -> dict[str, Any]:
        """The study as JSON, with the constants of the lab that it depends on."""
        return asdict(self) | {
            "tasks": list(self.tasks),
            "optimizers": list(self.optimizers),
            "epochs": dict(self.epochs),
            "learning_rates": list(self.learning_rates),
            "tuning_seed": TUNING_SEED,
            "divergence_multiple": DIVERGENCE_MULTIPLE,
        }

    @property
    def command(self) -> str:
        """The command line that does this study, without the folder."""
        lengths = set(self.epochs.values())
        return (
            f"meansquare compare --tasks {','.join(self.tasks)}"
            f" --optimizers {','.join(self.optimizers)} --budget {self.budget}"
            f" --seeds {self.seeds}" + (f" --epochs {lengths.pop()}" if len(lengths) == 1 else "")
        )

    def tuning(self) -> list[Plan]:
        """One run per task, optimizer and rate; tasks alternate so that the time left is even."""
        return [
            Plan("tune", task, optimizer, lr, TUNING_SEED, self.epochs[task])
            for lr in self.learning_rates
            for optimizer in self.optimizers
            for task in self.tasks
        ]

    def final(self, chosen: Mapping[tuple[str, str], float]) -> list[Plan]:
        """Paired seeds 1..n at the chosen rates, by (task, optimizer); without a rate, no run."""
        return [
            Plan("final", task, optimizer, chosen[task, optimizer], seed, self.epochs[task])
            for seed in range(1, self.seeds + 1)
            for optimizer in self.optimizers
            for task in self.tasks
            if (task, optimizer) in chosen
        ]


def fingerprint(protocol: Mapping[str, Any]) -> str:
    """Twelve hex digits that are equal exactly when two protocols are."""
    canonical = json.dumps(protocol, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]
