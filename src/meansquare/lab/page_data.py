"""The summary as the page's script reads it: rounded, thinned, by position instead of by name."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from meansquare.lab.arms import Arm, Curves
from meansquare.lab.compare import Summary, TaskSummary
from meansquare.lab.ground import ground_of
from meansquare.lab.looks import LOOKS, MARKS, OURS, look_of
from meansquare.lab.wording import KINDS, measured_in, others

MOST_POINTS = 200  # of a curve: more than a chart has pixels to show
MOST_WAYS = 3  # seeds whose way over a surface is shown
DIGITS = 5


def embedded(summary: Summary) -> str:
    """JSON that may stand in a script element: no markup, no line separators."""
    text = json.dumps(page_data(summary), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def page_data(summary: Summary) -> dict[str, Any]:
    """Everything that the charts show."""
    names = list(summary.protocol["optimizers"])
    return {
        "optimizers": [_optimizer(name, summary.setups[name]["label"]) for name in names],
        "kinds": KINDS,
        "search": summary.protocol["search"],
        "seeds": summary.protocol["seeds"],
        "tasks": [_task(task) for task in summary.tasks],
    }


def _optimizer(name: str, label: str) -> dict[str, Any]:
    look = look_of(name)
    return {
        "name": name,
        "label": label,
        "ours": name == OURS,
        "known": name in LOOKS,
        "mark": MARKS[look.marker],
        "dash": " ".join(f"{length:g}" for length in look.dash),
    }


def _task(task: TaskSummary) -> dict[str, Any]:
    facts = task.facts
    kept = ("name", "title", "kind", "metric", "baselines", "events", "scale")
    ground = ground_of(facts["name"]) if facts["kind"] == "surface" else None
    return {
        **{name: facts[name] for name in kept},
        "higher": facts["higher_is_better"],
        "period": facts["epoch"],
        "target": _rounded(task.target),
        "unit": measured_in(facts, ""),
        "ground": ground and ground.facts,
        "arms": [_arm(arm, with_ways=facts["kind"] == "surface") for arm in task.arms],
    }


def _arm(arm: Arm, with_ways: bool) -> dict[str, Any]:
    return {
        "verdict": arm.verdict,
        "lr": arm.lr,
        "others": others(arm.settings),
        "edge": arm.edge,
        "mean": _rounded(arm.mean),
        "interval": _rounded(arm.interval),
        "scores": _rounded(arm.scores),
        "seeds": [curve.seed for curve in arm.curves],
        "against": _rounded(arm.to_best and [arm.to_best.gain, *arm.to_best.interval]),
        "chance": arm.to_best and arm.to_best.chance,
        "tried": [[t.lr, _rounded(t.loss), others(t.settings)] for t in arm.tried],
        "sofar": _rounded(arm.best_so_far),
        "reached": _rounded(arm.reached),
        "stepUs": _rounded(arm.step_us),
        "share": _rounded(arm.optimizer_share),
        "curves": _curves(arm),
        "ways": [_way(curve) for curve in arm.curves[:MOST_WAYS]] if with_ways else [],
    }


def _curves(arm: Arm) -> dict[str, Any]:
    """Every seed's curves at the same periods, and where those that diverged end."""
    longest = max((len(curve.train_loss) for curve in arm.curves), default=0)
    at = thinned(longest)
    diverged = [c for c, s in zip(arm.curves, arm.scores, strict=True) if s is None]
    return {
        "at": [index + 1 for index in at],
        "steps": _rounded([_median(arm.curves, "steps_at", index) for index in at]),
        "seconds": _rounded([_median(arm.curves, "training_seconds_at", index) for index in at]),
        "train": _rounded([_picked(curve.train_loss, at) for curve in arm.curves]),
        "metric": _rounded([_picked(curve.validation_metric, at) for curve in arm.curves]),
        "ended": [[curve.seed, len(curve.train_loss)] for curve in diverged if curve.train_loss],
    }


def thinned(count: int, most: int = MOST_POINTS) -> list[int]:
    """At most `most` positions out of `count`, evenly spread, with the first and the last."""
    if count <= most:
        return list(range(count))
    return [round(index * (count - 1) / (most - 1)) for index in range(most)]


def _picked(values: Sequence[float], at: Sequence[int]) -> list[float]:
    return [values[index] for index in at if index < len(values)]


def _median(curves: Sequence[Curves], name: str, index: int) -> float:
    return statistics.median(
        getattr(curve, name)[index] for curve in curves if index < len(getattr(curve, name))
    )


def _way(curve: Curves) -> dict[str, Any]:
    series: Mapping[str, Sequence[float]] = curve.series
    if not {"x", "y"} <= series.keys():
        return {"seed": curve.seed, "x": [], "y": []}
    at = thinned(len(series["x"]))
    return {
        "seed": curve.seed,
        "points": len(series["x"]),
        "x": _rounded(_picked(series["x"], at)),
        "y": _rounded(_picked(series["y"], at)),
    }


def _rounded(value: Any) -> Any:
    """Numbers with five significant digits, in any nesting of sequences."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, (list, tuple)):
        return [_rounded(part) for part in value]
    return value
