"""The ground that a trajectory runs over: a surface's contour lines, as paths in a square."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from meansquare.lab.landscapes import LANDSCAPES

SIDE = 81  # of the grid that contours are drawn from
LEVELS = 14
UNITS = 1000  # of the paths, per side of the window


@dataclass(frozen=True)
class Ground:
    """`window` is (left, right, bottom, top); below each level lies the inside of a contour."""

    window: tuple[float, float, float, float]
    optimum: tuple[float, float] | None
    values: np.ndarray
    levels: tuple[float, ...]

    @property
    def facts(self) -> dict[str, Any]:
        """As the page's script reads it."""
        paths = [_path(self.values, level) for level in self.levels]
        return {"window": self.window, "optimum": self.optimum, "paths": paths, "units": UNITS}


def ground_of(name: str) -> Ground | None:
    """The ground of a task over a plane; None for any other."""
    found = LANDSCAPES.get(name)
    return None if found is None else grounded(found.value, found.window, found.optimum)


def grounded(
    value: Callable[[float, float], float],
    window: tuple[float, float, float, float],
    optimum: tuple[float, float] | None,
) -> Ground:
    """A formula's values over a window, with levels closer together where it is low."""
    left, right, bottom, top = window
    rows = np.linspace(bottom, top, SIDE)
    columns = np.linspace(left, right, SIDE)
    values = np.asarray([[value(float(x), float(y)) for x in columns] for y in rows])
    # By rank, not by value: a narrow valley gets as many lines as the wide slopes around it.
    shares = np.linspace(0.05, 1.0, LEVELS, endpoint=False) ** 1.5
    return Ground(window, optimum, values, tuple(np.unique(np.quantile(values, shares)).tolist()))


def _path(values: np.ndarray, level: float) -> str:
    from contourpy import FillType, contour_generator

    side = np.linspace(0, UNITS, SIDE)
    generator = contour_generator(side, side, values, fill_type=FillType.OuterOffset)
    polygons: Any
    offsets: Any
    polygons, offsets, *_ = generator.filled(float(values.min()) - 1.0, level)
    rings = [
        points[begin : end - 1]
        for points, offset in zip(polygons, offsets, strict=True)
        for begin, end in pairwise(offset)
    ]
    return "".join(map(_ring, rings))


def _ring(points: np.ndarray) -> str:
    # The window's top is the highest y, a picture's is the lowest.
    return f"M{'L'.join(f'{x:.0f} {UNITS - y:.0f}' for x, y in points)}Z"
