"""The atlas: one page that shows what an optimizer did to every layer over time. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from meansquare.lab.atlas_findings import RULES, findings
from meansquare.lab.files import replace_file
from meansquare.lab.page_data import thinned
from meansquare.lab.watch_file import Happening, Look, Watched, load

TEMPLATE, STYLE = "atlas.html.j2", "atlas.css"
SHADES = 32
MOST_CELLS, MOST_COLUMNS, MOST_POINTS = 6000, 120, 600
WIDTH, LEFT, ROW = 900, 170, 15  # of the drawings, in their own units


@dataclass(frozen=True)
class Map:
    """What one heat map shows: a number of the looks, how it is called and what it means."""

    number: str
    title: str
    meaning: str
    is_share: bool = False


MAPS = (
    Map("rate", "Effective learning rate",
        "The median over a layer of lr / (sqrt(v) + eps): how far a weight moves for a gradient of "
        "1. Layers that differ by decades are what RMSProp is for."),
    Map("relative_update", "Update relative to the weights",
        "The size of a step over the size of the weights. About 0.001 is usual; near 0.1 a layer "
        "is rewritten at every step, far below 0.000001 it stands still."),
    Map("precursor", "Spike precursor",
        "sqrt(mean(g^2 / v)): near 1 while the second moment fits the gradients. Above about 3 the "
        "gradients have outgrown it, and the loss may follow within some steps. (In the first "
        "steps v is still filling: it is high then.)"),
    Map("gradient", "Gradient", "The root of the mean square of the gradient."),
    Map("eps_rules", "Share ruled by eps",
        "The share of weights whose eps is more than sqrt(v). RMSProp is gradient descent there.",
        True),
    Map("dead", "Share without a gradient",
        "The share of weights that have no gradient now and never had one.", True),
    Map("stale", "Share with a stale second moment",
        "The share of weights whose v remembers gradients a thousand times as large as now.", True),
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    x: float
    shade: int
    told: str


@dataclass(frozen=True)
class Heat:
    """A drawn heat map: a row of cells for each layer; what its lightest and darkest are."""

    map: Map
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    cell_width: float
    low: str
    high: str


def write(path: Path) -> Path:
    """Draw a file of `meansquare.watch` as a page beside it; returns where that is."""
    page = path.with_suffix(".html")
    replace_file(page, render(load(path)).encode())
    return page


def render(watched: Watched) -> str:
    """The page."""
    loader = PackageLoader("meansquare.lab", ".")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["figure"] = figure
    heats = [heat for one in MAPS if (heat := _heat(watched, one))]
    return environment.get_template(TEMPLATE).render(
        watched=watched,
        findings=findings(watched),
        rules=RULES,
        heats=heats,
        height=ROW * len(watched.names),
        curve=_curve(watched),
        edges=_edges(watched),
        marks=_marks(watched),
        axis=_axis(watched),
        last=watched.looks[-1] if watched.looks else None,
        shades=_shades(),
        style=loader.get_source(environment, STYLE)[0],
        WIDTH=WIDTH,
        LEFT=LEFT,
        ROW=ROW,
        short=_short,
    )


def figure(value: float | None) -> str:
    """A number in three digits, or that there is none."""
    return "none" if value is None else f"{value:.3g}"


def _short(name: str) -> str:
    return name if len(name) <= 26 else f"…{name[-25:]}"


def _shades() -> list[str]:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    colors = colormaps["cividis"].resampled(SHADES)
    return [to_hex(colors(i)) for i in range(SHADES)]


def _columns(watched: Watched) -> list[int]:
    """The looks that are shown: all of them, or as many as fit, evenly spread."""
    most = max(2, min(MOST_COLUMNS, MOST_CELLS // max(1, len(watched.names))))
    return thinned(len(watched.looks), most)


def _x(watched: Watched, step: float) -> float:
    """Where a step is on the drawings."""
    return LEFT + (WIDTH - LEFT) * step / max(1, _last_step(watched))


def _last_step(watched: Watched) -> int:
    looks = [look.step for look in watched.looks]
    return max([*looks, *watched.losses, *(e.step for e in watched.events)], default=1)


def _heat(watched: Watched, what: Map) -> Heat | None:
    """None where no look has the number."""
    shown = _columns(watched)
    table = [watched.series(i, what.number) for i in range(len(watched.names))]
    known = [row[k] for row in table for k in shown]
    values = [v for v in known if v is not None and (what.is_share or v > 0)]
    if not values:
        return None
    low, high = (0.0, 1.0) if what.is_share else (min(values), max(values))
    rows = []
    for i, name in enumerate(watched.names):
        cells = [
            Cell(_left(watched, shown, k), _shade(table[i][k], low, high, what),
                 _told(watched.looks[k], i, what))
            for k in shown
            if table[i][k] is not None
        ]  # fmt: skip
        rows.append((name, tuple(cells)))
    width = (WIDTH - LEFT) / max(1, len(shown)) + 0.3
    return Heat(what, tuple(rows), width, figure(low), figure(high))


def _left(watched: Watched, shown: Sequence[int], look: int) -> float:
    place = shown.index(look)
    return round(LEFT + (WIDTH - LEFT) * place / max(1, len(shown)), 1)


def _shade(value: float | None, low: float, high: float, what: Map) -> int:
    if value is None or not math.isfinite(value):
        return 0
    if what.is_share:
        part = value
    elif value <= 0 or high <= low:
        part = 0.0 if value <= 0 else 1.0
    else:
        part = math.log(value / low) / math.log(high / low)
    return min(SHADES - 1, max(0, round(part * (SHADES - 1))))


def _told(look: Look, tensor: int, what: Map) -> str:
    seen = look.tensors[tensor] or {}
    value = seen.get(what.number)
    if isinstance(value, list):
        return f"step {look.step}: {figure(value[2])} ({figure(value[0])} to {figure(value[4])})"
    return f"step {look.step}: {figure(value)}"


@dataclass(frozen=True)
class Curve:
    """A line by step: its points, and the ends of its axis."""

    points: str
    low: str
    high: str
    is_log: bool


def _curve(watched: Watched) -> Curve | None:
    return _drawn(watched, watched.losses, 150)


def _edges(watched: Watched) -> Curve | None:
    return _drawn(watched, watched.edges, 60) if len(watched.edges) > 1 else None


def _drawn(watched: Watched, by_step: Mapping[int, float | None], height: float) -> Curve | None:
    known = [(step, v) for step, v in by_step.items() if v is not None and math.isfinite(v)]
    if not known:
        return None
    picked = [known[i] for i in thinned(len(known), MOST_POINTS)]
    spikes = sorted(known, key=lambda point: -point[1])[:20]  # thinning is not to hide them
    points = sorted({*picked, *spikes})
    low, high = min(v for _, v in points), max(v for _, v in points)
    is_log = low > 0 and high > 10 * low

    def y(value: float) -> float:
        if high == low:
            return height / 2
        if is_log:
            return height * (1 - math.log(value / low) / math.log(high / low))
        return height * (1 - (value - low) / (high - low))

    text = " ".join(f"{_x(watched, step):.1f},{y(value):.1f}" for step, value in points)
    return Curve(text, figure(low), figure(high), is_log)


def _marks(watched: Watched) -> list[tuple[float, Happening]]:
    """Events with their places, at most 200 of them."""
    return [(round(_x(watched, event.step), 1), event) for event in watched.events[:200]]


def _axis(watched: Watched) -> list[tuple[float, int]]:
    """Places and steps of five marks."""
    last = _last_step(watched)
    steps = sorted({round(last * i / 4) for i in range(5)})
    return [(round(_x(watched, step), 1), step) for step in steps]
