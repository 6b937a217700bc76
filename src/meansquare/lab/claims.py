"""What articles claim of RMSProp and its rivals, each with a rule that decides it from records.

A claim is frozen: its tasks, its optimizers and its rule are here, and nothing else is looked at.
Claims that can share their runs are of one court: a study, and a folder of records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from meansquare.lab.arms import Arm
from meansquare.lab.compare import Summary, TaskSummary, against
from meansquare.lab.tasks import TASKS, Kind
from meansquare.lab.wording import score

Verdict = Literal["REPRODUCED", "NOT REPRODUCED", "UNDECIDED"]
Ranks = Literal["ahead", "tie", "behind"]
Court = Literal["usual", "styles", "river"]
Rule = Callable[["Claim", Mapping[str, TaskSummary]], Verdict]

LEAST_SEEDS = 5  # with fewer, nothing is decided
STANDS: Mapping[Ranks, str] = {"ahead": "ahead of", "tie": "level with", "behind": "behind"}
FEWER_STEPS = 1.25  # times as many steps to a target count as slower


@dataclass(frozen=True)
class Claim:
    """A sentence, where it is made, and the smallest runs that can decide it.

    `first` and `others` are the optimizers that it is about; the rule asks how `first` fares
    against each of `others` on `tasks`.
    """

    name: str
    sentence: str
    source: str
    tasks: tuple[str, ...]
    first: str
    others: tuple[str, ...]
    says: str
    rule: Rule
    court: Court = "usual"

    @property
    def optimizers(self) -> tuple[str, ...]:
        return (self.first, *self.others)


def decide(claim: Claim, summary: Summary) -> Verdict:
    """The verdict on a claim from the records that a summary was made of."""
    tasks = {task.facts["name"]: task for task in summary.tasks}
    if not set(claim.tasks) <= tasks.keys():
        return "UNDECIDED"
    if not set(claim.optimizers) <= {standing.optimizer for standing in summary.standings}:
        return "UNDECIDED"
    chosen = {name: tasks[name] for name in claim.tasks}
    whole = [_is_whole(_arm(task, n)) for task in chosen.values() for n in claim.optimizers]
    return claim.rule(claim, chosen) if all(whole) else "UNDECIDED"


def standing(task: TaskSummary, first: str, other: str) -> Ranks:
    """How one optimizer's results stand to another's, by the interval of paired differences.

    One that diverged in any seed is behind one that did not.
    """
    ours, theirs = _arm(task, first), _arm(task, other)
    if ours.mean is None or theirs.mean is None:
        return "tie" if ours.mean is theirs.mean else "behind" if ours.mean is None else "ahead"
    compared = against(ours, theirs, task.facts["higher_is_better"])
    if compared is None or compared.interval.holds_zero:
        return "tie"
    return "ahead" if compared.gain > 0 else "behind"


def evidence(claim: Claim, summary: Summary) -> list[str]:
    """A line per task: every optimizer's result, how the first stands to it, and its steps."""
    lines = []
    for task in summary.tasks:
        known = {arm.optimizer for arm in task.arms}
        if task.facts["name"] in claim.tasks and set(claim.optimizers) <= known:
            told = [_told(_arm(task, claim.first))]
            for other in claim.others:
                stands = STANDS[standing(task, claim.first, other)]
                told.append(f"{stands} {_told(_arm(task, other))}")
            lines.append(f"{task.facts['name']} ({task.facts['metric']}): {', '.join(told)}")
    return lines


def _suits(claim: Claim, tasks: Mapping[str, TaskSummary]) -> Verdict:
    """Better than gradient descent on more than half, worse on none, and mostly level with all."""
    plain = [standing(task, claim.first, claim.others[0]) for task in tasks.values()]
    level = [
        all(standing(task, claim.first, other) != "behind" for other in claim.others)
        for task in tasks.values()
    ]
    wins = 2 * plain.count("ahead") > len(plain) and "behind" not in plain
    if wins and 2 * sum(level) >= len(level):
        return "REPRODUCED"
    if "ahead" not in plain or 2 * plain.count("behind") > len(plain):
        return "NOT REPRODUCED"
    return "UNDECIDED"


def _beats(claim: Claim, tasks: Mapping[str, TaskSummary]) -> Verdict:
    """Better on more than half of the tasks and worse on none; the contrary: better on none."""
    stands = [
        standing(task, claim.first, other) for task in tasks.values() for other in claim.others
    ]
    if 2 * stands.count("ahead") > len(stands) and "behind" not in stands:
        return "REPRODUCED"
    return "NOT REPRODUCED" if "ahead" not in stands else "UNDECIDED"


def _is_faster(claim: Claim, tasks: Mapping[str, TaskSummary]) -> Verdict:
    """Fewer steps to the target on more than half of the tasks that either reaches."""
    races = [_race(task, claim.first, claim.others[0]) for task in tasks.values()]
    run = [race for race in races if race is not None]
    if not run:
        return "UNDECIDED"
    if 2 * run.count("ahead") > len(run):
        return "REPRODUCED"
    if 2 * run.count("ahead") < len(run) and run.count("behind") > run.count("ahead"):
        return "NOT REPRODUCED"
    return "UNDECIDED"


def _is_level(claim: Claim, tasks: Mapping[str, TaskSummary]) -> Verdict:
    """No difference on more than half of the tasks; the contrary: one on more than half."""
    stands = [
        standing(task, claim.first, other) for task in tasks.values() for other in claim.others
    ]
    if 2 * stands.count("tie") > len(stands):
        return "REPRODUCED"
    return "NOT REPRODUCED" if 2 * stands.count("tie") < len(stands) else "UNDECIDED"


def _race(task: TaskSummary, first: str, other: str) -> Ranks | None:
    ours, theirs = (_arm(task, name).reached.steps for name in (first, other))
    if ours is None and theirs is None:
        return None
    if ours is None or theirs is None:
        return "behind" if ours is None else "ahead"
    if max(ours, theirs) < FEWER_STEPS * min(ours, theirs):
        return "tie"
    return "ahead" if ours < theirs else "behind"


def _arm(task: TaskSummary, name: str) -> Arm:
    return next(arm for arm in task.arms if arm.optimizer == name)


def _is_whole(arm: Arm) -> bool:
    # An optimizer that diverged at every setting has no final runs, which is a result.
    return len(arm.scores) >= LEAST_SEEDS or arm.verdict == "diverged"


def _told(arm: Arm) -> str:
    steps = "target missed" if arm.reached.steps is None else f"target in {arm.reached.steps:,.0f}"
    return f"{arm.optimizer} {score(arm)} ({steps})"


def _of(*kinds: Kind) -> tuple[str, ...]:
    return tuple(name for name, listing in TASKS.items() if listing.kind in kinds)


RIVALS = ("sgd", "momentum", "adam")
SUITS = (
    "REPRODUCED where it is ahead of gradient descent on more than half of the tasks and behind it "
    "on none, and not behind any rival on at least half; NOT REPRODUCED where it is ahead of "
    "gradient descent on none, or behind it on more than half"
)
BEATS = "REPRODUCED where it is ahead on more than half and behind on none; NOT where ahead on none"
FASTER = (
    "REPRODUCED where it needs fewer steps to the target (by a quarter) on more than half of the "
    "tasks that either reaches; NOT REPRODUCED where it more often needs more"
)
LEVEL = "REPRODUCED where the two are level on more than half of the tasks; NOT where on fewer"


def _suit(name: str, of: str, kinds: Sequence[Kind], source: str) -> Claim:
    sentence = f"RMSProp suits {of}."
    return Claim(name, sentence, source, _of(*kinds), "rmsprop", RIVALS, SUITS, _suits)


_ALL: Iterable[Claim] = (
    _suit("suits-cnn", "convolutional networks", ["cnn"], "Hinton 2012; Szegedy et al. 2016"),
    _suit("suits-rnn", "recurrent networks", ["rnn"], "Graves 2013; Karpathy 2015"),
    _suit("suits-rl", "reinforcement learning", ["agent"], "Mnih et al. 2015 and 2016"),
    _suit("suits-series", "time series", ["forecast"], "widely said"),
    _suit("suits-nonconvex", "non-convex problems", ["surface"], "widely said"),
    Claim(
        "suits-drift", "RMSProp suits data whose pattern shifts, where AdaGrad stops learning.",
        "Hinton 2012, lecture 6e", ("sea", "hyperplane", "moving-quadratic"), "rmsprop",
        ("adagrad",), BEATS, _beats,
    ),
    Claim(
        "adagrad-stalls", "AdaGrad stalls in long training, where RMSProp goes on.",
        "Goodfellow et al. 2016, section 8.5", ("rosenbrock", "char-lstm", "moving-quadratic"),
        "rmsprop", ("adagrad",), BEATS, _beats,
    ),
    Claim(
        "adam-faster", "Adam converges faster than RMSProp.", "Kingma and Ba 2015", tuple(TASKS),
        "adam", ("rmsprop",), FASTER, _is_faster,
    ),
    Claim(
        "momentum-ravine", "Momentum crosses ravines that slow gradient descent down.",
        "Polyak 1964; Sutskever et al. 2013", ("ravine", "rosenbrock"), "momentum", ("sgd",),
        FASTER, _is_faster,
    ),
    Claim(
        "style-for-rl", "Agents learn better with TensorFlow's RMSProp (eps inside the root, "
        "second moment from 1) than with PyTorch's.", "Stable-Baselines3, issues 48 and 110",
        _of("agent"), "sb3", ("torch",), BEATS, _beats, "styles",
    ),
    Claim(
        "river-is-level", "River's RMSProp (rho 0.9, eps inside the root) learns a stream as well "
        "as PyTorch's (alpha 0.99).", "the defaults of both", _of("stream"), "river-rmsprop",
        ("torch",), LEVEL, _is_level, "river",
    ),
    Claim(
        "river-adagrad", "On a stream that drifts, RMSProp is ahead of AdaGrad, with river's, too.",
        "Hinton 2012, lecture 6e", ("sea", "hyperplane"), "river-rmsprop", ("river-adagrad",),
        BEATS, _beats, "river",
    ),
)  # fmt: skip
CLAIMS: Mapping[str, Claim] = {claim.name: claim for claim in _ALL}
