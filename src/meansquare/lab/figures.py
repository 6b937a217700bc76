"""The pictures beside the page, for slides and papers: PNG and SVG, 460 px wide, on white."""

from __future__ import annotations

import io
import math
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from meansquare.lab.arms import Arm
from meansquare.lab.compare import Summary, TaskSummary
from meansquare.lab.ground import Ground, ground_of
from meansquare.lab.looks import HEIGHT, INK, OURS, SOFT, STYLE, WIDTH, look_of
from meansquare.lab.wording import measured_in

Fill = Callable[[Axes, TaskSummary], None]


@dataclass(frozen=True)
class Picture:
    """One figure as files."""

    name: str
    title: str
    svg: bytes
    png: bytes


def draw(task: TaskSummary) -> list[Picture]:
    """A task's curves, learning rates and results; for a surface, the ways over it too."""
    ground = ground_of(task.facts["name"]) if task.facts["kind"] == "surface" else None
    drawings: list[tuple[str, str, Fill]] = [
        ("curves", "Learning curves", _draw_curves),
        ("rates", "Learning rates", _draw_rates),
        ("results", "Results", _draw_results),
    ]
    if ground is not None:
        drawings.append(("ways", "Ways", lambda axes, task: _draw_ways(axes, task, ground)))
    stem = file_stem(task.facts["name"])
    return [
        _picture(f"{stem}-{kind}", title, lambda axes, fill=fill: fill(axes, task))
        for kind, title, fill in drawings
    ]


def draw_profile(summary: Summary) -> Picture:
    """How many tasks each optimizer brings to their target within a multiple of the fastest."""
    return _picture(
        "performance-profile", "Performance profile", lambda axes: _draw_profile(axes, summary)
    )


def file_stem(name: str) -> str:
    """A task's name as part of a file's; one that had to be changed gets a digest to stay apart."""
    safe = re.sub(r"[^\w.-]+", "-", name).strip("-.")[-60:]
    return safe if safe == name else f"{safe}-{zlib.crc32(name.encode()):08x}"


def _picture(name: str, title: str, fill: Callable[[Axes], None]) -> Picture:
    with _canvas() as (figure, axes):
        fill(axes)
        return Picture(name, title, _save(figure, "svg"), _save(figure, "png"))


@contextmanager
def _canvas() -> Iterator[tuple[Figure, Axes]]:
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(WIDTH, HEIGHT))
        try:
            yield figure, axes
        finally:
            plt.close(figure)


def _save(figure: Figure, kind: str) -> bytes:
    target = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    figure.savefig(target, format=kind, dpi=144, metadata=metadata, bbox_inches="tight")
    return target.getvalue()


def _draw_curves(axes: Axes, task: TaskSummary) -> None:
    for arm in _ours_last(task.arms):
        kept = [curve.validation_metric for curve in arm.curves]
        longest = max(map(len, kept), default=0)
        columns = [[c[i] for c in kept if i < len(c)] for i in range(longest)]
        periods, color = range(1, longest + 1), look_of(arm.optimizer).color
        lows, highs = [min(column) for column in columns], [max(column) for column in columns]
        axes.fill_between(periods, lows, highs, color=color, alpha=0.13, lw=0)
        # A mean of those that are left would hide that one is lost.
        whole = [math.fsum(c) / len(c) for c in columns if len(c) == len(kept)]
        axes.plot(range(1, len(whole) + 1), whole, **_line(arm), markevery=max(1, longest // 6))
        for curve, score in zip(arm.curves, arm.scores, strict=True):
            if score is None and curve.validation_metric:
                end = len(curve.validation_metric), curve.validation_metric[-1]
                axes.plot(*end, "x", color=color, ms=8, mew=2, zorder=6)
    facts = task.facts
    axes.set(
        xlabel=facts["epoch"], ylabel=f"validation{measured_in(facts, ', ')}", yscale=facts["scale"]
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for at in facts["events"].values():
        axes.axvline(at, color=INK, lw=1.2, ls=":", zorder=1)
    if task.target is not None:
        axes.axhline(task.target, color=SOFT, lw=1.1, ls=(0, (5, 4)), zorder=1)
    _legend(axes, task.arms)


def _draw_rates(axes: Axes, task: TaskSummary) -> None:
    finite = [trial.loss for arm in task.arms for trial in arm.tried if trial.loss is not None]
    log = bool(finite) and min(finite) > 0
    joined = all(len(arm.settings or ()) < 2 for arm in task.arms)
    for arm in _ours_last(task.arms):
        losses = [math.nan if t.loss is None else t.loss for t in arm.tried]
        line: dict[str, Any] = _line(arm) | ({} if joined else {"ls": "none"})
        axes.plot([trial.lr for trial in arm.tried], losses, **line)
        chosen = [t.loss for t in arm.tried if t.lr == arm.lr and t.loss is not None]
        if arm.lr is not None and chosen:
            color = look_of(arm.optimizer).color
            axes.plot(arm.lr, min(chosen), "o", mfc="none", mec=color, ms=13, mew=2, zorder=7)
    _cross_diverged_rates(axes, task.arms)
    axes.set(xlabel="learning rate", ylabel="validation loss", xscale="log")
    if log:
        axes.set_yscale("log")
        # Runs that blew up without diverging would flatten every valley.
        axes.set_ylim(top=min(max(finite), 30 * min(finite)) * 1.6)
        _number_log_axis(axes)
    _legend(axes, task.arms)


def _cross_diverged_rates(axes: Axes, arms: Sequence[Arm]) -> None:
    lost = [(trial.lr, arm) for arm in arms for trial in arm.tried if trial.loss is None]
    for index, (lr, arm) in enumerate(lost):
        # One below the other: every optimizer that diverged at this rate stays visible.
        above = sum(earlier == lr for earlier, _ in lost[:index])
        axes.annotate(
            "\N{MULTIPLICATION SIGN}", (lr, 1.0), xycoords=("data", "axes fraction"),
            xytext=(0, -13 * above), textcoords="offset points", ha="center", va="center",
            color=look_of(arm.optimizer).color, fontsize=17, fontweight="bold",
        )  # fmt: skip


def _draw_results(axes: Axes, task: TaskSummary) -> None:
    rows = list(reversed(task.ranked))
    for height, arm in enumerate(rows):
        look = look_of(arm.optimizer)
        scores = [score for score in arm.scores if score is not None]
        axes.plot(scores, [height] * len(scores), "o", color=look.color, alpha=0.3, ms=6, mew=0)
        if arm.mean is not None and arm.interval is not None:
            axes.plot(arm.interval, [height] * 2, color=look.color, lw=5, solid_capstyle="round")
            axes.plot(arm.mean, height, look.marker, color=look.color, ms=11, mec="white", mew=1.5)
        else:
            lost = f"{arm.diverged_seeds} of {len(arm.scores)} diverged"
            empty = "diverged" if arm.tried and arm.settings is None else "not run yet"
            axes.annotate(
                lost if arm.scores else empty, (0.5, height), ha="center", va="center",
                xycoords=("axes fraction", "data"),
            )  # fmt: skip
    axes.set_yticks(range(len(rows)), [f"{arm.label}, {arm.verdict}" for arm in rows])
    axes.set_ylim(-0.6, len(rows) - 0.3)
    better = "higher" if task.facts["higher_is_better"] else "lower"
    axes.set_xlabel(f"{task.facts['metric']}{measured_in(task.facts, ', ')} ({better} is better)")
    axes.grid(axis="y", visible=False)
    _mark_baselines(axes, task)
    for text, arm in zip(axes.get_yticklabels(), rows, strict=True):
        text.set_fontweight("bold" if arm.optimizer == OURS else "normal")


def _mark_baselines(axes: Axes, task: TaskSummary) -> None:
    low, high = axes.get_xlim()
    margin = 0.25 * (high - low)
    inside = {
        name: value
        for name, value in task.facts["baselines"].items()
        if low - margin < value < high + margin
    }
    for line, (name, value) in enumerate(sorted(inside.items(), key=lambda item: -item[1])):
        axes.axvline(value, color="#7b8490", lw=1.3, ls=(0, (4, 3)), zorder=0)
        right = value > (low + high) / 2
        axes.annotate(
            name, (value, 1.0), xycoords=("data", "axes fraction"), color="#4a525c", fontsize=11.5,
            xytext=(-4 if right else 4, 4 + 15 * line), textcoords="offset points",
            ha="right" if right else "left",
        )  # fmt: skip


def _draw_ways(axes: Axes, task: TaskSummary, ground: Ground) -> None:
    left, right, bottom, top = ground.window
    side = ground.values.shape
    across, up = np.linspace(left, right, side[1]), np.linspace(bottom, top, side[0])
    axes.contour(across, up, ground.values, levels=ground.levels, colors="#b4bfca", linewidths=0.8)
    for arm in _ours_last(task.arms):
        ways = [c.series for c in arm.curves if {"x", "y"} <= c.series.keys()]
        if ways:
            every = max(1, len(ways[0]["x"]) // 8)
            axes.plot(ways[0]["x"], ways[0]["y"], **_line(arm), markevery=every)
    if ground.optimum is not None:
        axes.plot(*ground.optimum, "*", color=INK, ms=13, mec="white", zorder=8)
    axes.set(xlim=(left, right), ylim=(bottom, top), xlabel="x", ylabel="y")
    axes.grid(visible=False)
    _legend(axes, task.arms)


def _draw_profile(axes: Axes, summary: Summary) -> None:
    longest = max((r for s in summary.standings for r in s.ratios if r is not None), default=1.0)
    end = 1.1 * max(longest, 1.5)
    for standing in sorted(summary.standings, key=lambda s: s.optimizer == OURS):
        ratios = sorted(ratio for ratio in standing.ratios if ratio is not None)
        shares = [sum(r <= ratio for r in ratios) / len(standing.ratios) for ratio in ratios]
        at_once = sum(ratio <= 1.0 for ratio in ratios) / len(standing.ratios)
        look, ours = look_of(standing.optimizer), standing.optimizer == OURS
        axes.step(
            [1.0, *ratios, end], [at_once, *shares, shares[-1] if shares else 0.0], where="post",
            color=look.color, ls=_dashes(look.dash), marker=look.marker, ms=5,
            lw=3.0 if ours else 1.8, label=standing.label,
        )  # fmt: skip
    axes.set(xscale="log", xlim=(1.0, end), ylim=(0, 1.03))
    axes.set(xlabel="steps to the target, times the fastest", ylabel="share of tasks")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.legend(frameon=False, fontsize=10.5, ncols=3, loc="lower left", bbox_to_anchor=(-0.02, 1))


def _dashes(dash: Sequence[float]) -> str | tuple[int, tuple[float, ...]]:
    # In units of the line's width, where the page's are pixels.
    return (0, tuple(length / 1.6 for length in dash)) if dash else "-"


def _line(arm: Arm) -> dict[str, Any]:
    look, ours = look_of(arm.optimizer), arm.optimizer == OURS
    return {
        "color": look.color, "marker": look.marker, "ls": _dashes(look.dash), "ms": 5,
        "lw": 3.0 if ours else 1.8, "zorder": 5 if ours else 3,
    }  # fmt: skip


def _legend(axes: Axes, arms: Sequence[Arm]) -> None:
    handles = [Line2D([], [], label=arm.label, **_line(arm)) for arm in arms]
    axes.legend(
        handles=handles, frameon=False, fontsize=10.5, ncols=3, loc="lower left",
        bbox_to_anchor=(-0.02, 1), handlelength=2.6, columnspacing=1.2,
    )  # fmt: skip


def _number_log_axis(axes: Axes) -> None:
    low, high = axes.get_ylim()
    steps = (1.0, 2.0, 5.0) if high < 100 * low else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _ours_last(arms: Sequence[Arm]) -> list[Arm]:
    return sorted(arms, key=lambda arm: arm.optimizer == OURS)
