"""Numbers and findings in words, the same in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Sequence

from meansquare.lab.compare import Arm, TaskSummary


def number(value: float) -> str:
    """Four significant digits, trailing zeros kept: 98.30, 0.3871."""
    text = f"{value:#.4g}"
    return text.rstrip(".")


def rate(lr: float | None) -> str:
    """A learning rate with three significant digits."""
    return "none" if lr is None else f"{lr:.3g}"


def score(arm: Arm) -> str:
    """Mean and interval, or why there is none."""
    if arm.mean is None or arm.interval is None:
        return (
            f"diverged in {arm.diverged_seeds} of {len(arm.scores)} seeds"
            if arm.scores
            else ("diverged at every rate")
        )
    if len(arm.scores) < 2:
        return f"{number(arm.mean)} (one seed)"
    return f"{number(arm.mean)} [{number(arm.interval.low)}, {number(arm.interval.high)}]"


def divergence(arm: Arm) -> str:
    """Diverged runs out of all, tuning and final."""
    return (
        f"{arm.diverged_trials}/{len(arm.trials)} tuning, "
        f"{arm.diverged_seeds}/{len(arm.scores)} final"
    )


def step_time(arm: Arm) -> str:
    """Median microseconds per optimizer step and the share of the training time."""
    if arm.step_us is None or arm.optimizer_share is None:
        return "not measured"
    return f"{arm.step_us:.0f} µs, {100 * arm.optimizer_share:.0f} %"


def listing(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def finding(task: TaskSummary) -> str:
    """One paragraph: who is best, who ties, is behind or diverged, and what a baseline does."""
    best = task.ranked[0]
    if best.mean is None:
        return "No optimizer finished every seed, so there is no ranking."
    unit, metric = task.facts["unit"], task.facts["metric"]
    first = f"{best.label} has the best mean {metric}, {score(best)} {unit}"
    groups = [
        _group(task, "tie", "ties", "tie", "with it"),
        _group(task, "behind", "is", "are", "behind"),
    ]
    diverged = _group(task, "diverged", "has", "have", "diverged")
    sentence = "; ".join(filter(None, [first, *groups, diverged]))
    return f"{sentence}. {_baseline_sentence(task, best)}"


def edge_warning(arm: Arm) -> str | None:
    """A flag for a rate that the search could not bracket."""
    if arm.edge is None:
        return None
    return f"{arm.label}'s rate, {rate(arm.lr)}, is at the {arm.edge} edge of the searched range."


def _group(task: TaskSummary, verdict: str, one: str, many: str, ending: str) -> str:
    labels = [arm.label for arm in task.ranked if arm.verdict == verdict]
    return f"{listing(labels)} {one if len(labels) == 1 else many} {ending}" if labels else ""


def _baseline_sentence(task: TaskSummary, best: Arm) -> str:
    sign = 1.0 if task.facts["higher_is_better"] else -1.0
    name, value = max(task.facts["baselines"].items(), key=lambda item: sign * item[1])
    return (
        f"The strongest baseline, {name}, reaches {number(value)} {task.facts['unit']}"
        f" and is {_standing(best, value, sign)}."
    )


def _standing(best: Arm, baseline: float, sign: float) -> str:
    assert best.interval is not None
    worst, top = sorted(sign * end for end in best.interval)
    if sign * baseline < worst:
        return "beaten"
    return "not beaten" if sign * baseline > top else "within that interval: a tie"
