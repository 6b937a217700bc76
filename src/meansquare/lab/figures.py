"""The pictures of the report, drawn 460 px wide so that a phone can show them readably."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from meansquare.lab.compare import Arm, TaskSummary
from meansquare.lab.looks import HEIGHT, INK, OURS, STYLE, WIDTH, look_of
from meansquare.lab.wording import number, rate


@dataclass(frozen=True)
class Picture:
    """One figure as files and as an inline element; `alt` says what it shows without eyes."""

    name: str
    title: str
    caption: str
    alt: str
    svg: str
    png: bytes


def draw(task: TaskSummary) -> list[Picture]:
    """The four pictures of a task."""
    return [
        _picture(task, "loss", "Training loss", _draw_loss, LOSS_CAPTION),
        _picture(task, "rates", "Learning-rate sensitivity", _draw_rates, RATES_CAPTION),
        _picture(task, "quality", "Final quality", _draw_quality, QUALITY_CAPTION),
        _picture(task, "time", "Time inside the optimizer", _draw_time, TIME_CAPTION),
    ]


LOSS_CAPTION = (
    "Mean over seeds of the loss during each epoch; the band spans the lowest and the highest "
    "seed. A cross marks where a seed diverged."
)
RATES_CAPTION = (
    "Validation loss after tuning with each rate; a ring marks the chosen one, a cross at the top "
    "a run that diverged. A wide valley forgives a bad guess."
)
QUALITY_CAPTION = (
    "Every seed (faint), the mean and its 95 % bootstrap interval on the test split. Where "
    "intervals overlap the result is a tie. Dashed: baselines that fall in this range."
)
TIME_CAPTION = "Median time of one optimizer.step(), and its share of the training time."


def _picture(
    task: TaskSummary,
    kind: str,
    title: str,
    fill: Callable[[Axes, TaskSummary], None],
    caption: str,
) -> Picture:
    name = f"{task.facts['name']}-{kind}"
    with _canvas() as (figure, axes):
        fill(axes, task)
        svg, png = _save(figure, "svg"), _save(figure, "png")
    alt = f"{title}, {task.facts['title']}. {_ALT[kind](task)}"
    return Picture(name, title, caption, alt, _inline(svg.decode(), name), png)


@contextmanager
def _canvas() -> Iterator[tuple[Figure, Axes]]:
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(WIDTH, HEIGHT), layout="constrained")
        try:
            yield figure, axes
        finally:
            plt.close(figure)


def _save(figure: Figure, kind: str) -> bytes:
    target = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    figure.savefig(target, format=kind, dpi=144, metadata=metadata)
    return target.getvalue()


def _inline(svg: str, name: str) -> str:
    """The bare element, with ids that stay unique when several pictures share a page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    return svg.strip()


def _draw_loss(axes: Axes, task: TaskSummary) -> None:
    for arm in _ours_last(task.arms):
        look = look_of(arm.optimizer)
        columns = list(zip(*arm.curves, strict=False))
        epochs = range(1, len(columns) + 1)
        means = [math.fsum(column) / len(column) for column in columns]
        axes.fill_between(
            epochs,
            list(map(min, columns)),
            list(map(max, columns)),
            color=look.color,
            alpha=0.16,
            lw=0,
        )
        axes.plot(epochs, means, color=look.color, lw=_line_width(arm), zorder=_order(arm))
        for curve, score in zip(arm.curves, arm.scores, strict=True):
            if score is None and curve:
                axes.plot(len(curve), curve[-1], "x", color=look.color, ms=8, mew=2, zorder=6)
    axes.set(xlabel="epoch", ylabel="training loss", yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _number_log_axis(axes)
    _legend(axes, task.arms, markers=False)


def _draw_rates(axes: Axes, task: TaskSummary) -> None:
    finite = [trial.loss for arm in task.arms for trial in arm.trials if trial.loss is not None]
    # Runs that blew up without diverging would flatten every valley: the axis ends above the start.
    ceiling = min(max(finite), 30 * min(finite)) * 1.6 if finite else 1.0
    for arm in _ours_last(task.arms):
        look = look_of(arm.optimizer)
        losses = [math.nan if t.loss is None else t.loss for t in arm.trials]
        rates = [trial.lr for trial in arm.trials]
        axes.plot(
            rates, losses, color=look.color, marker=look.marker, ms=5, lw=_line_width(arm),
            zorder=_order(arm),
        )  # fmt: skip
        chosen = [(t.lr, t.loss) for t in arm.trials if t.lr == arm.lr and t.loss is not None]
        for lr, loss in chosen:
            axes.plot(lr, loss, "o", mfc="none", mec=look.color, ms=13, mew=2, zorder=7)
    _cross_diverged_rates(axes, task.arms)
    axes.set(xlabel="learning rate", ylabel="validation loss", xscale="log", yscale="log")
    axes.set_ylim(top=ceiling)
    _number_log_axis(axes)
    _legend(axes, task.arms, markers=True)


def _cross_diverged_rates(axes: Axes, arms: Sequence[Arm]) -> None:
    lost = [(trial.lr, arm) for arm in arms for trial in arm.trials if trial.loss is None]
    for index, (lr, arm) in enumerate(lost):
        # One below the other: every optimizer that diverged at this rate stays visible.
        above = sum(earlier == lr for earlier, _ in lost[:index])
        axes.annotate(
            "\N{MULTIPLICATION SIGN}", (lr, 1.0), xycoords=("data", "axes fraction"),
            xytext=(0, -14 * above), textcoords="offset points", ha="center", va="center",
            color=look_of(arm.optimizer).color, fontsize=19, fontweight="bold",
        )  # fmt: skip


def _draw_quality(axes: Axes, task: TaskSummary) -> None:
    rows = list(reversed(task.ranked))
    for height, arm in enumerate(rows):
        look = look_of(arm.optimizer)
        scores = [score for score in arm.scores if score is not None]
        axes.plot(scores, [height] * len(scores), "o", color=look.color, alpha=0.3, ms=6, mew=0)
        if arm.mean is not None and arm.interval is not None:
            axes.plot(arm.interval, [height] * 2, color=look.color, lw=5, solid_capstyle="round")
            axes.plot(arm.mean, height, look.marker, color=look.color, ms=11, mec="white", mew=1.5)
        else:
            axes.annotate(
                f"{arm.diverged_seeds} of {len(arm.scores)} diverged" if arm.scores else "diverged",
                (0.5, height), xycoords=("axes fraction", "data"), ha="center", va="center",
            )  # fmt: skip
    axes.set_yticks(range(len(rows)), [arm.label for arm in rows])
    axes.set_ylim(-0.6, len(rows) - 0.3)
    better = "higher" if task.facts["higher_is_better"] else "lower"
    axes.set_xlabel(f"{task.facts['metric']}, {task.facts['unit']} ({better} is better)")
    axes.grid(axis="y", visible=False)
    _mark_baselines(axes, task)
    _emphasise_ours(axes, rows)


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


def _draw_time(axes: Axes, task: TaskSummary) -> None:
    timed = [arm for arm in task.arms if arm.step_us is not None]
    rows = sorted(timed, key=lambda arm: -(arm.step_us or 0.0))
    longest = max((arm.step_us or 0.0 for arm in rows), default=1.0)
    for height, arm in enumerate(rows):
        time, share = arm.step_us or 0.0, arm.optimizer_share or 0.0
        axes.barh(height, time, color=look_of(arm.optimizer).color, height=0.56)
        axes.annotate(
            f"{time:.0f} µs, {100 * share:.0f} %", (time, height), xytext=(6, 0),
            textcoords="offset points", va="center",
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [arm.label for arm in rows])
    axes.set_xlim(0, 1.42 * longest)
    axes.set_xlabel("µs per step, and share of training time")
    axes.grid(axis="y", visible=False)
    _emphasise_ours(axes, rows)


def _legend(axes: Axes, arms: Sequence[Arm], markers: bool) -> None:
    handles = [
        Line2D(
            [], [], color=look_of(arm.optimizer).color, lw=_line_width(arm), label=arm.label, ms=5,
            marker=look_of(arm.optimizer).marker if markers else "",
        )
        for arm in arms
    ]  # fmt: skip
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    figure.legend(
        handles=handles, loc="outside upper left", ncols=3, frameon=False, handlelength=1.6,
        columnspacing=1.4, borderpad=0.1,
    )  # fmt: skip


def _emphasise_ours(axes: Axes, rows: Sequence[Arm]) -> None:
    for label, arm in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_color(INK)
        label.set_fontweight("bold" if arm.optimizer == OURS else "normal")
    axes.tick_params(axis="y", length=0)


def _number_log_axis(axes: Axes) -> None:
    low, high = axes.get_ylim()
    steps = (1.0, 2.0, 5.0) if high < 100 * low else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _ours_last(arms: Sequence[Arm]) -> list[Arm]:
    return sorted(arms, key=lambda arm: arm.optimizer == OURS)


def _line_width(arm: Arm) -> float:
    return 3.0 if arm.optimizer == OURS else 1.8


def _order(arm: Arm) -> float:
    return 5 if arm.optimizer == OURS else 3


def _each(task: TaskSummary, say: Callable[[Arm], str]) -> str:
    return "; ".join(f"{arm.label} {say(arm)}" for arm in task.ranked) + "."


_ALT: dict[str, Callable[[TaskSummary], str]] = {
    "loss": lambda task: _each(
        task, lambda a: f"ends at {number(_last_mean(a))}" if a.curves else "has no run"
    ),
    "rates": lambda task: _each(task, lambda a: f"is best at {rate(a.lr)}"),
    "quality": lambda task: _each(
        task, lambda a: "diverged" if a.mean is None else f"reaches {number(a.mean)}"
    ),
    "time": lambda task: _each(
        task, lambda a: "has no run" if a.step_us is None else f"takes {a.step_us:.0f} µs per step"
    ),
}


def _last_mean(arm: Arm) -> float:
    ends = [curve[-1] for curve in arm.curves if curve]
    return math.fsum(ends) / len(ends) if ends else math.nan
