"""Surfaces over two weights, as formulas that NumPy, torch and plain numbers compute alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Window = tuple[float, float, float, float]


@dataclass(frozen=True)
class Landscape:
    """`value(x, y)` is the height above the lowest point, `optimum`; `start` is where runs begin.

    `spread` are the standard deviations of a run's first point around it, in x and in y. `window`
    is what a picture shows: left, right, bottom, top.
    """

    title: str
    formula: str
    source: str
    value: Callable[[Any, Any], Any]
    start: tuple[float, float]
    optimum: tuple[float, float]
    window: Window
    spread: tuple[float, float] = (0.1, 0.1)


def _rosenbrock(x: Any, y: Any) -> Any:
    return (1.0 - x) ** 2 + 100.0 * (y - x * x) ** 2


def _beale(x: Any, y: Any) -> Any:
    return sum((c - x + x * y**power) ** 2 for c, power in ((1.5, 1), (2.25, 2), (2.625, 3)))


def _saddle(x: Any, y: Any) -> Any:
    # As a sum of squares it is not a difference of large numbers where it is low.
    return x * x + (0.5 * y * y - 1.0) ** 2


def _ravine(x: Any, y: Any) -> Any:
    return 0.5 * (x * x + 200.0 * y * y)


def _bowl(x: Any, y: Any) -> Any:
    return 0.5 * (x * x + 10.0 * y * y)


LANDSCAPES: Mapping[str, Landscape] = {
    "rosenbrock": Landscape(
        "Rosenbrock's valley", "(1 - x)^2 + 100 (y - x^2)^2", "Rosenbrock 1960",
        _rosenbrock, (-1.2, 1.0), (1.0, 1.0), (-2.0, 2.0, -1.0, 3.0),
    ),
    "beale": Landscape(
        "Beale's function", "(1.5 - x + xy)^2 + (2.25 - x + xy^2)^2 + (2.625 - x + xy^3)^2",
        "Beale 1958", _beale, (1.0, 1.0), (3.0, 0.5), (-1.0, 4.5, -1.5, 2.0),
    ),
    "saddle": Landscape(
        "A saddle", "x^2 - y^2 + y^4 / 4 + 1", "two minima, at y = +-sqrt(2)",
        # Five deviations above the line that leads into the saddle: runs go down on one side.
        _saddle, (1.0, 0.01), (0.0, 2.0**0.5), (-1.5, 1.5, -2.2, 2.2), (0.1, 0.002),
    ),
    "ravine": Landscape(
        "A ravine", "(x^2 + 200 y^2) / 2", "a quadratic of condition 200",
        _ravine, (-4.0, 0.3), (0.0, 0.0), (-5.0, 2.0, -1.0, 1.0),
    ),
    "moving-quadratic": Landscape(
        "A noisy bowl that jumps", "((x - a)^2 + 10 (y - b)^2) / 2", "its optimum (a, b) jumps",
        _bowl, (3.0, 3.0), (0.0, 0.0), (-5.0, 5.0, -5.0, 5.0),
    ),
}  # fmt: skip
