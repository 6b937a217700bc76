"""Which optimizer, over all tasks, and how sure: who leads, and from whom that can be told apart.

The same sentences are made in report_answer.js, for the tasks that a reader chooses.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from meansquare.lab.compare import TaskSummary
from meansquare.lab.wording import listing, rate

# With fewer decided tasks no count of wins is beyond chance: 2 / 2**5 > 0.05.
LEAST_TASKS = 6
LEVEL = 0.05
TOP = ("best", "tie")


@dataclass(frozen=True)
class Place:
    """An optimizer over the decided tasks, `on_top` where best or tied, `alone` where none ties.

    `wins` are tasks that it tops and the first does not, `losses` the other way round; `apart`
    tells that such a count is beyond chance (sign test).
    """

    optimizer: str
    label: str
    best: int
    on_top: int
    alone: int
    wins: int
    losses: int
    apart: bool
    rates: tuple[float, ...]


@dataclass(frozen=True)
class Answer:
    """The first thing to read: `headline`, then `details`, and the optimizers, best first."""

    headline: str
    details: tuple[str, ...]
    decided: int
    places: tuple[Place, ...]


def answer(tasks: Sequence[TaskSummary]) -> Answer:
    """What the decided tasks say together; a task is decided where some optimizer is best."""
    decided = [task for task in tasks if any(arm.verdict == "best" for arm in task.arms)]
    places = _places(tasks, decided)
    details = tuple(filter(None, (_rates(places, decided), _sureness(places, tasks, decided))))
    return Answer(_headline(places, decided), details, len(decided), places)


def sign_test(wins: int, losses: int) -> float:
    """The chance that a fair coin falls as one-sidedly as this, either way."""
    count = wins + losses
    tail = sum(math.comb(count, k) for k in range(min(wins, losses) + 1))
    return min(1.0, 2.0 * tail / 2**count)


def middle_rate(rates: Sequence[float]) -> float | None:
    """The median of learning rates; of an even number, the lower of the two in the middle."""
    return statistics.median_low(rates) if rates else None


def _places(tasks: Sequence[TaskSummary], decided: Sequence[TaskSummary]) -> tuple[Place, ...]:
    tops = [{arm.optimizer for arm in task.arms if arm.verdict in TOP} for task in decided]
    labels = {arm.optimizer: arm.label for task in tasks for arm in task.arms}
    count = {name: sum(name in top for top in tops) for name in labels}
    alone = {name: sum(top == {name} for top in tops) for name in labels}
    order = sorted(labels, key=lambda name: (-count[name], -alone[name]))
    first, found = order[0], []
    for name in order:
        wins = sum(name in top and first not in top for top in tops)
        losses = sum(name not in top and first in top for top in tops)
        arms = [arm for task in tasks for arm in task.arms if arm.optimizer == name]
        place = Place(
            optimizer=name,
            label=labels[name],
            best=sum(arm.verdict == "best" for arm in arms),
            on_top=count[name],
            alone=alone[name],
            wins=wins,
            losses=losses,
            apart=name != first and sign_test(wins, losses) < LEVEL,
            rates=tuple(sorted(arm.lr for arm in arms if arm.lr is not None)),
        )
        found.append(place)
    return tuple(found)


def _headline(places: Sequence[Place], decided: Sequence[TaskSummary]) -> str:
    if not decided:
        return "No answer yet: no task has a result of every seed."
    if len(decided) == 1:
        return _of_one(decided[0])
    count = f"best or tied on {places[0].on_top} of {len(decided)} tasks."
    if len(decided) < LEAST_TASKS:
        first = [place.label for place in places if place.on_top == places[0].on_top]
        return f"{listing(first)}: {'' if len(first) == 1 else 'each '}{count}"
    group = [place.label for place in places if not place.apart]
    if len(group) == 1:
        return f"{group[0]}: {count}"
    if len(group) == len(places):
        return f"No winner: over {len(decided)} tasks, no optimizer stands out."
    return f"{listing(group)}: too close to call, the rest behind."


def _of_one(task: TaskSummary) -> str:
    top = [arm for arm in task.ranked if arm.verdict in TOP]
    if len(top) == 1:
        return f"{top[0].label}, with learning rate {rate(top[0].lr)}."
    return f"A tie: {listing([f'{arm.label} ({rate(arm.lr)})' for arm in top])}."


def _rates(places: Sequence[Place], decided: Sequence[TaskSummary]) -> str:
    leaders = [place for place in places if place.on_top == places[0].on_top and place.rates]
    if len(decided) < 2 or not leaders:
        return ""
    most = f"Most often best or tied, on {places[0].on_top} of {len(decided)}: begin "
    starts = [
        f"{place.label} at learning rate {rate(middle_rate(place.rates))}" for place in leaders
    ]
    said = "Begin " if len(decided) < LEAST_TASKS else most
    return f"{said}{listing(starts)}{_span(leaders)}."


def _span(leaders: Sequence[Place]) -> str:
    if len(leaders) > 1:
        return ", each the middle of its chosen ones"
    low, high = rate(leaders[0].rates[0]), rate(leaders[0].rates[-1])
    return " (chosen on every task)" if low == high else f" (chosen: from {low} to {high})"


def _sureness(
    places: Sequence[Place], tasks: Sequence[TaskSummary], decided: Sequence[TaskSummary]
) -> str:
    if not decided:
        return ""
    clear = sum(place.alone for place in places)
    if len(decided) == 1:
        of = "clear of all others" if clear else "not clear of the others"
        said = f"How sure: the best is {of}"
    else:
        said = f"How sure: one optimizer is clearly best on {clear} of {len(decided)} tasks"
    if 1 < len(decided) > clear:
        said += f"; on {len(decided) - clear} the best ties with others"
    if len(decided) < len(tasks):
        said += f"; {len(tasks) - len(decided)} without a verdict yet"
    if 1 < len(decided) < LEAST_TASKS:
        said += ". Too few tasks to generalise"
    return said + "."
