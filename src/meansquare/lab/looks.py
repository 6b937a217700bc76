"""Sizes, colours and markers of the pictures, the same in every figure and on the page."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 460 / 72, 330 / 72
OURS = "rmsprop"
INK, FAINT = "#22262b", "#c9ced6"


@dataclass(frozen=True)
class Look:
    """How an optimizer is drawn, everywhere the same; hues stay apart for colour-blind eyes."""

    color: str
    marker: str


LOOKS = {
    "rmsprop": Look("#d55e00", "o"),
    "sgd": Look("#5b6570", "s"),
    "momentum": Look("#0072b2", "^"),
    "adagrad": Look("#009e73", "D"),
    "adam": Look("#b5569b", "v"),
}
# Of optimizers that users bring.
OTHERS = [Look("#7a5c00", "P"), Look("#3a3f9e", "X"), Look("#8c1c13", "*"), Look("#00727a", "h")]


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
