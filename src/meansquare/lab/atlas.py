"""The atlas: one page that shows what an optimizer did to every layer over time. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from meansquare.lab.atlas_findings import THRESHOLDS, findings
from meansquare.lab.files import replace_file
from meansquare.lab.page_data import thinned
from meansquare.lab.watch_file import NUMBERS, Happening, Watched, load

TEMPLATE, STYLE = "atlas.html.j2", "atlas.css"
SHADES = 32
MOST_COLUMNS, MOST_BYTES, CELL_BYTES = 120, 2_500_000, 80  # of all maps; of a cell without its name
MOST_PIECES, MOST_CROSSES, MOST_MARKS, MOST_EVENTS = 300, 100, 200, 50
WIDTH, LEFT, ROW, TALL, LOW = 900, 170, 15, 150, 60  # of the drawings, in their own units
NAME_LENGTH, FLAG_WIDTH, ABSENT = 26, 16, -math.inf


@dataclass(frozen=True)
class Map:
    """What one heat map shows: a number of the looks, how it is called and what it means."""

    number: str
    title: str
    meaning: str
    is_share: bool = False


MAPS = (
    Map("rate", "Effective learning rate",
        "The median over a layer of lr / (sqrt(v) + eps), absolute: how far a weight moves for a "
        "gradient of 1. Layers that differ by decades are what RMSProp is for."),
    Map("precursor", "Spike precursor",
        "sqrt(mean(g² / v)): near 1 while the second moment fits the gradients. Above about 3 the "
        "gradients have outgrown it, and the loss may follow within some steps. (In the first "
        "steps v is still filling: it is high then.)"),
    Map("relative_update", "Update relative to the weights",
        "The size of a step over the size of the weights. About 0.001 is usual; near 0.1 a layer "
        "is rewritten at every step, far below 0.000001 it stands still."),
    Map("eps_rules", "Share ruled by eps",
        "The share of weights whose eps is more than sqrt(v). RMSProp is gradient descent there.",
        True),
    Map("gradient", "Gradient", "The root of the mean square of the gradient."),
    Map("dead", "Share without a gradient",
        "The share of weights that have no gradient now and never had one.", True),
    Map("stale", "Share with a stale second moment",
        "The share of weights whose v remembers gradients a thousand times as large as now.", True),
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """The looks that one column stands for, and where it lies."""

    looks: range
    x: float
    width: float


@dataclass(frozen=True)
class Cell:
    row: int
    shade: int
    told: str


@dataclass(frozen=True)
class Heat:
    """A drawn heat map: the cells of each column (none where all is zero), and its scale."""

    map: Map
    columns: tuple[tuple[Cell, ...], ...]
    low: str
    high: str


@dataclass(frozen=True)
class Curve:
    """A line by step: its path, marks of its axis, and where there was no finite value."""

    path: str
    ticks: tuple[tuple[float, str], ...]
    low: str
    high: str
    gaps: tuple[float, ...]
    missing: int
    edge: float = 0.0


def write(path: Path) -> Path:
    """Draw a file of `meansquare.watch` as a page beside it; returns where that is."""
    return write_all([path])[0]


def write_all(paths: Sequence[Path]) -> list[Path]:
    """The pages of several files: all of them, or none where a file is damaged (LabError)."""
    pages = {path.with_suffix(".html"): render(load(path)) for path in paths}
    for place, page in pages.items():
        replace_file(place, page.encode(errors="replace"))
    return [*pages]


def render(watched: Watched) -> str:
    """The page."""
    loader = PackageLoader("meansquare.lab", ".")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(figure=figure, short=short)
    columns = _columns(watched)
    return environment.get_template(TEMPLATE).render(
        watched=watched,
        header=watched.header,
        findings=findings(watched),
        thresholds=THRESHOLDS,
        columns=columns,
        heats=[heat for one in MAPS if (heat := _heat(watched, one, columns))],
        height=ROW * len(watched.header.names),
        curve=_curve(watched, watched.losses, TALL),
        edges=_curve(watched, watched.edges, LOW, with_edge=True),
        marks=_marks(watched),
        axis=_axis(watched),
        numbers=NUMBERS,
        shades=_shades(),
        style=loader.get_source(environment, STYLE)[0],
        most_events=MOST_EVENTS,
        WIDTH=WIDTH, LEFT=LEFT, ROW=ROW, TALL=TALL, LOW=LOW,
    )  # fmt: skip


def figure(value: float | None) -> str:
    """A number in three digits, or that there is none."""
    return "none" if value is None else f"{value:.3g}"


def short(name: str) -> str:
    """The end of a long name, which is what tells layers apart."""
    return name if len(name) <= NAME_LENGTH else f"…{name[1 - NAME_LENGTH :]}"


def _shades() -> list[str]:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    colors = colormaps["cividis"].resampled(SHADES)
    return [to_hex(colors(i)) for i in range(SHADES)]


def _last_step(watched: Watched) -> int:
    steps = [thing.step for thing in (*watched.looks, *watched.events)]
    return max([1, *steps, *watched.losses, *watched.edges])


def _places(watched: Watched, steps: Sequence[int]) -> list[float]:
    """Where steps are on the drawings."""
    last = _last_step(watched)
    return [round(LEFT + (WIDTH - LEFT) * step / last, 1) for step in steps]


def _columns(watched: Watched) -> list[Column]:
    """As many as the page has room for, each from the step after the last one's to its own."""
    looks, names = len(watched.looks), watched.header.names
    a_column = len(MAPS) * sum(CELL_BYTES + len(short(name)) for name in names)
    most = max(2, min(MOST_COLUMNS, MOST_BYTES // max(1, a_column)))
    count = min(most, looks)
    ends = [looks * (i + 1) // count for i in range(count)]
    right = _places(watched, [watched.looks[end - 1].step for end in ends])
    return [
        Column(range(first, end), x, max(1.0, round(until - x, 1)))
        for first, end, x, until in zip(
            [0, *ends], ends, [float(LEFT), *right], right, strict=False
        )
    ]  # fmt: skip


def _heat(watched: Watched, what: Map, columns: Sequence[Column]) -> Heat | None:
    """None where no look has the number. Of the looks of a column the largest is shown."""
    table = [
        [ABSENT if value is None else value for value in watched.series(i, what.number)]
        for i in range(len(watched.header.names))
    ]
    known = {value for row in table for value in row} - {ABSENT}
    if known <= {0.0}:
        return Heat(what, (), "0", "0") if known else None
    ends = [value for value in known if value > 0] or [0.0]
    low, high = (0.0, 1.0) if what.is_share else (min(ends), max(ends))
    cells = []
    for column in columns:
        largest = [max(column.looks, key=row.__getitem__) for row in table]
        cells.append(
            tuple(
                Cell(i, _shade(row[k], low, high, what), _told(watched, k, i, what))
                for i, (row, k) in enumerate(zip(table, largest, strict=True))
                if row[k] != ABSENT
            )
        )
    return Heat(what, tuple(cells), figure(low), figure(high))


def _shade(value: float, low: float, high: float, what: Map) -> int:
    if what.is_share:
        part = min(1.0, max(0.0, value))
    elif value <= 0 or high <= low:
        part = 0.0
    else:
        part = (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
    return round(part * (SHADES - 1))


def _told(watched: Watched, look: int, tensor: int, what: Map) -> str:
    seen, step = watched.looks[look].tensors[tensor], watched.looks[look].step
    values = ", ".join(map(figure, seen.values(what.number))) if seen else ""
    return f"{short(watched.header.names[tensor])}, step {step}: {values}"


def _curve(
    watched: Watched, by_step: Mapping[int, float | None], height: float, with_edge: bool = False
) -> Curve | None:
    """A line through the least and the largest value of every piece of time, so that thinning
    hides no spike; broken where values are not finite. Its axis is a log one if it can be.
    """
    known = {step: value for step, value in by_step.items() if value is not None}
    lost = [step for step, value in by_step.items() if value is None]
    if not known:
        return None
    ends = [*known.values(), 1.0] if with_edge else [*known.values()]
    low, high = min(ends), max(ends)

    def y(value: float) -> float:
        if high == low:
            return height / 2
        if low > 0:
            part = (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
        else:
            part = (value / 2 - low / 2) / (high / 2 - low / 2)
        return round(height * (1 - part), 1)

    steps = _kept(by_step, known)
    path, is_down = [], False
    for x, step in zip(_places(watched, steps), steps, strict=True):
        if step in known:
            # A point of its own has a line of no length, which round caps make visible.
            path.append(f"{'L' if is_down else 'M'}{x} {y(known[step])}{'' if is_down else 'h0'}")
        is_down = step in known
    crosses = _places(watched, [lost[i] for i in thinned(len(lost), MOST_CROSSES)])
    ticks = tuple((y(value), figure(value)) for value in _ticks(low, high))
    return Curve(
        "".join(path), ticks, figure(min(known.values())), figure(max(known.values())),
        tuple(crosses), len(lost), y(1.0) if with_edge else 0.0,
    )  # fmt: skip


def _kept(by_step: Mapping[int, float | None], known: Mapping[int, float]) -> list[int]:
    """The steps that are drawn: of every piece its lowest, its highest and a lost one."""
    steps = sorted(by_step)
    size = max(1, math.ceil(len(steps) / MOST_PIECES))
    kept = {steps[0], steps[-1]}
    for start in range(0, len(steps), size):
        piece = steps[start : start + size]
        finite = [step for step in piece if step in known]
        if finite:
            kept |= {min(finite, key=known.__getitem__), max(finite, key=known.__getitem__)}
        kept.update([step for step in piece if step not in known][:1])
    return sorted(kept)


def _ticks(low: float, high: float) -> list[float]:
    """The ends of an axis, and of a log one the powers of ten that are well between them."""
    if low <= 0 or high < 30 * low:
        return [low, high] if high > low else [low]
    first, last = math.ceil(math.log10(low) + 0.3), math.floor(math.log10(high) - 0.3)
    stride = max(1, math.ceil((last - first + 1) / 4))
    return [low, *(float(f"1e{power}") for power in range(first, last + 1, stride)), high]


def _marks(watched: Watched) -> list[tuple[float, int | None, Happening]]:
    """Events with their places; the number that one has in the table, where there is room."""
    events = watched.events[:MOST_MARKS]
    marks, free = [], 0.0
    places = _places(watched, [event.step for event in events])
    for number, (x, event) in enumerate(zip(places, events, strict=True), start=1):
        has_room = x >= free and number <= MOST_EVENTS
        marks.append((x, number if has_room else None, event))
        free = x + FLAG_WIDTH if has_room else free
    return marks


def _axis(watched: Watched) -> list[tuple[float, int]]:
    """Places and steps of five marks."""
    last = _last_step(watched)
    steps = sorted({round(last * i / 4) for i in range(5)})
    return [*zip(_places(watched, steps), steps, strict=True)]
