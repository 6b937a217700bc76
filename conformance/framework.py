"""The form of a framework that is driven: its calls, what each is given, what is allowed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.problem import NEAR_CONSTANT, VARIED, Problem

Case = dict[str, Any]

FLOAT64, FLOAT32 = 1e-10, 2e-5
"""The largest difference, relative to the parameter or to 1. In float32 the roundings of 300 steps
add up, most where v - m*m is taken of numbers that are nearly equal."""
ROUNDED = 1e-6
"""That in float64 where a framework rounds one of its numbers to float32 (6e-8) on the way."""


@dataclass(frozen=True)
class Run:
    """A problem in a precision."""

    problem: Problem
    dtype: str

    @property
    def key(self) -> str:
        return f"{self.problem.name} {self.dtype}"

    def steps(self) -> Iterator[tuple[int, float, list[np.ndarray]]]:
        return self.problem.each(self.dtype)

    def starts(self) -> list[np.ndarray]:
        return self.problem.starts(self.dtype)


@dataclass(frozen=True)
class Framework:
    """A framework: the dialect that it is, where it is installed, and calls of it."""

    name: str
    dialect: str
    package: str
    environment: str
    cases: tuple[Case, ...]
    centered: Case | None = None
    """The call that centers, if there is one: it is given near-constant gradients."""
    float64: bool = True
    rounds: Callable[[Case], bool] = lambda case: False
    """Whether it rounds a number to float32 although its parameters are float64."""

    def runs(self) -> Iterator[tuple[Run, tuple[Case, ...]]]:
        """What it is given, and the calls that are given it."""
        for dtype in ("float64", "float32") if self.float64 else ("float32",):
            yield Run(VARIED, dtype), self.cases
        if self.centered is not None:
            yield Run(NEAR_CONSTANT, "float32"), (self.centered,)

    def tolerance(self, case: Case, dtype: str) -> float:
        return FLOAT32 if dtype == "float32" else ROUNDED if self.rounds(case) else FLOAT64


def inexact(decay: str) -> Callable[[Case], bool]:
    """Of a framework that keeps settings in float32: whether this call has one that this changes.

    Its defaults are such; a call that names `decay` is taken to name them all.
    """
    return lambda case: (
        decay not in case
        or any(isinstance(value, float) and value != np.float32(value) for value in case.values())
    )


def divides_by_nothing(dialect: str, case: Case) -> bool:
    """Whether the variance is exactly zero in the first step: corrected, m is g and v is g*g."""
    chosen = case.get("centered") and case.get("bias_correction")
    return bool(dialect == "optax" and chosen and not case.get("initial_scale"))
