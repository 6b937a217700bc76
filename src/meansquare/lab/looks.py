"""Colours, markers and dashes of the optimizers: the same in the page's charts and in the files."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 460 / 72, 330 / 72
OURS = "rmsprop"
INK, SOFT = "#22262b", "#4f5965"
GROUND, DARK_GROUND = "#ffffff", "#171b21"


@dataclass(frozen=True)
class Look:
    """How an optimizer is drawn: on light and on dark ground, its marker and dash.

    The hues were searched for: any two of the usual six are 20 apart in CIELAB or more, also as
    colour-blind eyes see them (Machado et al. 2009), at a contrast of 3 to 1 with the ground.
    """

    color: str
    on_dark: str
    marker: str
    dash: tuple[float, ...] = ()


LOOKS = {
    "rmsprop": Look("#df650f", "#ff7f2e", "o"),
    "sgd": Look("#7f8c92", "#7d858c", "s", (2, 2)),
    "momentum": Look("#345bfe", "#3d7dff", "^", (7, 3)),
    "nesterov": Look("#213a7c", "#b9e6f2", "D", (7, 2, 2, 2)),
    "adagrad": Look("#07874b", "#3fe096", "P", (4, 2)),
    "adam": Look("#59233f", "#b85fc4", "v", (11, 3)),
}
# Of dialects and optimizers that users bring.
OTHERS = [
    Look("#8a6d00", "#e0c04a", "X", (5, 2, 1, 2)),
    Look("#00727a", "#3fb8c2", "h", (3, 3)),
    Look("#a3262a", "#ff8d8a", "*", (9, 2, 2, 2, 2, 2)),
    Look("#6a4fb3", "#a594f0", "p", (1, 2)),
]

# The markers as paths about a circle of radius 1, named as matplotlib names them.
MARKS = {
    "o": "M-.85 0a.85.85 0 1 0 1.7 0a.85.85 0 1 0-1.7 0Z",
    "s": "M-.75-.75h1.5v1.5h-1.5Z",
    "^": "M0-1L.95.75H-.95Z",
    "v": "M0 1L.95-.75H-.95Z",
    "D": "M0-1.05L1.05 0L0 1.05L-1.05 0Z",
    "P": "M-.35-1h.7v.65H1v.7H.35V1h-.7V.35H-1v-.7h.65Z",
    "X": "M-.5-1L0-.5L.5-1L1-.5L.5 0L1 .5L.5 1L0 .5L-.5 1L-1 .5L-.5 0L-1-.5Z",
    "h": "M0-1L.87-.5V.5L0 1L-.87 .5V-.5Z",
    "*": "M0-1.1L.26-.36L1.05-.34L.42.14L.65.89L0 .44L-.65.89L-.42.14L-1.05-.34L-.26-.36Z",
    "p": "M0-1L.95-.31L.59.81H-.59L-.95-.31Z",
}


def look_of(optimizer: str) -> Look:
    """The look of an optimizer, the same in every picture and every run."""
    return LOOKS.get(optimizer) or OTHERS[zlib.crc32(optimizer.encode()) % len(OTHERS)]


STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 12.0,
    "axes.edgecolor": "#9aa2ad",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#eceff3",
    "text.color": INK,
    "xtick.color": "#4a525c",
    "ytick.color": "#4a525c",
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "meansquare",
}
