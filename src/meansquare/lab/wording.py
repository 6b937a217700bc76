"""Numbers and findings in words, the same in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from meansquare.lab.arms import Arm
from meansquare.lab.compare import Summary, TaskSummary
from meansquare.lab.space import Settings

KINDS = {
    "cnn": "images",
    "rnn": "sequences",
    "forecast": "forecasts",
    "agent": "agents",
    "stream": "streams",
    "fine-tuning": "fine-tuning",
    "rare": "rare classes",
    "table": "tables",
    "surface": "surfaces",
    "own": "your own",
}
NO_UNIT = "-"


def number(value: float) -> str:
    """Four significant digits, trailing zeros kept: 98.30, 0.3871, 12,340, 1.234e-05."""
    if 1e4 <= abs(value) < 1e7:
        return f"{value:,.0f}"
    return f"{value:#.4g}".rstrip(".")


def rate(lr: float | None) -> str:
    """A learning rate with three significant digits."""
    return "none" if lr is None else f"{lr:.3g}"


def others(settings: Settings | None) -> str:
    """The tuned settings besides the learning rate: `momentum 0.93, eps 1e-06`."""
    pairs = [(name, value) for name, value in (settings or {}).items() if name != "lr"]
    return ", ".join(f"{name} {value:.3g}" for name, value in pairs)


def measured_in(facts: Mapping[str, Any], before: str = " ") -> str:
    """The unit with what stands before it; nothing for a metric that has none."""
    return "" if facts["unit"] == NO_UNIT else f"{before}{facts['unit']}"


def score(arm: Arm) -> str:
    """Mean and interval, or why there is none."""
    if arm.mean is None or arm.interval is None:
        lost = f"diverged in {arm.diverged_seeds} of {len(arm.scores)} seeds"
        return lost if arm.scores else _unscored(arm)
    if len(arm.scores) < 2:
        return f"{number(arm.mean)} (one seed)"
    return f"{number(arm.mean)} [{number(arm.interval.low)}, {number(arm.interval.high)}]"


def _unscored(arm: Arm) -> str:
    if not arm.tried:
        return "not run yet"
    return "diverged at every setting" if arm.settings is None else "no final run yet"


def difference(arm: Arm) -> str:
    """How much better than the best, over pairs of seeds, with its interval."""
    if arm.verdict == "best" or arm.to_best is None:
        return ""
    gain, interval, _ = arm.to_best
    return f"{_signed(gain)} [{_signed(interval.low)}, {_signed(interval.high)}]"


def chance(arm: Arm) -> str:
    """In how many of the seeds it beats the best, equal results counting half."""
    if arm.verdict == "best" or arm.to_best is None:
        return ""
    return f"{100 * arm.to_best.chance:.0f} %"


def over_next(task: TaskSummary) -> str:
    """In how many of the seeds the best beats the next best."""
    following = [(arm, arm.to_best) for arm in task.ranked[1:] if arm.to_best is not None]
    if task.ranked[0].verdict != "best" or not following:
        return ""
    arm, compared = following[0]
    return f"{100 * (1 - compared.chance):.0f} % ({arm.label})"


def flags(task: TaskSummary) -> list[str]:
    """The warnings of a task in a few words each."""
    edges = [arm.label for arm in task.arms if arm.edge]
    lost = [arm.label for arm in task.arms if arm.verdict == "diverged"]
    return [
        *(["the search was too small"] if task.lost_to_momentum else []),
        *([f"at the edge: {listing(edges)}"] if edges else []),
        *([f"diverged: {listing(lost)}"] if lost else []),
    ]


def divergence(arm: Arm) -> str:
    """Diverged runs out of all, tuning and final."""
    return (
        f"{arm.diverged_trials}/{len(arm.tried)} tuning, "
        f"{arm.diverged_seeds}/{len(arm.scores)} final"
    )


def step_time(arm: Arm) -> str:
    """Median microseconds per optimizer step and the share of the training time."""
    if arm.step_us is None or arm.optimizer_share is None:
        return "not measured"
    return f"{arm.step_us:.0f} µs, {100 * arm.optimizer_share:.0f} %"


def pace(arm: Arm) -> str:
    """Updates per second of training, model and optimizer together."""
    pace = arm.updates_per_second
    return "not measured" if pace is None else f"{float(f'{pace:.3g}'):,.0f}"


def reached(arm: Arm) -> str:
    """Steps to the target of the median seed, or that it missed it."""
    if not arm.scores:
        return ""
    if arm.reached.steps is None:
        return f"missed ({arm.reached.seeds}/{len(arm.scores)} seeds)"
    return f"{arm.reached.steps:,.0f}"


def listing(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def finding(task: TaskSummary) -> str:
    """One paragraph: who is best, who ties, is behind or diverged, and what a baseline does."""
    best = task.ranked[0]
    if best.mean is None:
        return "No optimizer has a result of every seed, so there is no ranking."
    metric, unit = task.facts["metric"].removeprefix("mean "), measured_in(task.facts)
    first = f"{best.label} has the best mean {metric}, {score(best)}{unit}"
    groups = [
        _group(task, "tie", "ties", "tie", "with it"),
        _group(task, "behind", "is", "are", "behind"),
    ]
    diverged = _group(task, "diverged", "has", "have", "diverged")
    sentence = "; ".join(filter(None, [first, *groups, diverged]))
    return f"{sentence}. {_baseline_sentence(task, best)}".rstrip()


def edge_warning(arm: Arm) -> str | None:
    """A flag for settings that the search could not bracket."""
    if arm.edge is None:
        return None
    return f"{arm.label}'s rate, {rate(arm.lr)}, is at the {arm.edge} edge of the widened range."


def warnings(task: TaskSummary) -> list[str]:
    """What a reader must know before believing a task's verdicts."""
    edges = filter(None, map(edge_warning, task.arms))
    found = [f"{said} The optimum may lie outside." for said in edges]
    if task.lost_to_momentum:
        found.append(
            "The search was too small: RMSProp, whose settings contain Momentum's, came out behind"
            " Momentum. Give it more trials."
        )
    lost = [f"{arm.label} ({divergence(arm)})" for arm in task.arms if arm.diverged_seeds]
    if lost:
        found.append(f"Diverged at the chosen setting: {listing(lost)}.")
    return found


def missing(summary: Summary) -> list[str]:
    """Per task, the runs that an unfinished folder still lacks."""
    lines = []
    for task in summary.tasks:
        parts = [part for arm in task.arms if (part := _lacking(arm, summary.protocol))]
        if parts:
            lines.append(f"{task.facts['title']}: {'; '.join(parts)}")
    return lines


def _lacking(arm: Arm, protocol: Mapping[str, Any]) -> str:
    if len(arm.tried) < protocol["budget"]:
        return f"{arm.label} has {len(arm.tried)} of at least {protocol['budget']} tuning runs"
    if arm.settings is not None and len(arm.scores) < protocol["seeds"]:
        return f"{arm.label} has {len(arm.scores)} of {protocol['seeds']} final runs"
    return ""


def _signed(value: float) -> str:
    text = f"{value:+#.3g}".rstrip(".")
    return text.replace("-", "\N{MINUS SIGN}", 1) if value else "0"


def _group(task: TaskSummary, verdict: str, one: str, many: str, ending: str) -> str:
    labels = [arm.label for arm in task.ranked if arm.verdict == verdict]
    return f"{listing(labels)} {one if len(labels) == 1 else many} {ending}" if labels else ""


def _baseline_sentence(task: TaskSummary, best: Arm) -> str:
    if not task.facts["baselines"]:
        return ""
    sign = 1.0 if task.facts["higher_is_better"] else -1.0
    name, value = max(task.facts["baselines"].items(), key=lambda item: sign * item[1])
    return (
        f"The strongest baseline, {name}, reaches {number(value)}{measured_in(task.facts)}"
        f" and is {_standing(best, value, sign)}."
    )


def _standing(best: Arm, baseline: float, sign: float) -> str:
    assert best.interval is not None
    worst, top = sorted(sign * end for end in best.interval)
    if sign * baseline < worst:
        return "beaten"
    return "not beaten" if sign * baseline > top else "within that interval: a tie"
