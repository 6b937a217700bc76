"""What stands out in a watched training, as sentences, the gravest first."""

from __future__ import annotations

import statistics
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

from meansquare.lab.watch_file import Happening, Watched

FORESEEN = 3.0  # of the precursor: gradients three times what v has settled on
WARM = 100  # steps after which the precursor is no matter of an average that begins at zero
FOLLOWS = 8  # steps from a precursor to the spike of the loss (arXiv:2506.04805)
BEFORE, FEWEST = 50, 20  # losses that one is compared with
SPIKE, DEVIATIONS = 3.0, 15.0  # of their median, and of their median distance from it
EDGE = 1.0
_first = itemgetter(0)  # of equals, the layers stay in their order
TOLD, NAMED, MOST = 2, 3, 12  # sentences of a kind, layers named besides, sentences in all


@dataclass(frozen=True)
class Finding:
    """One sentence, and what to do about it."""

    text: str
    advice: str


@dataclass(frozen=True)
class Rule:
    """Of a number at a layer's last look: from where on it is told, and in what words."""

    number: str
    limit: float
    text: str
    advice: str
    is_least: bool = False

    def holds(self, value: float) -> bool:
        return value < self.limit if self.is_least else value > self.limit


EPS = Rule(
    "eps_rules", 0.5,
    "eps rules {value:.0%} of the weights of {name} since step {since}: there {optimizer} has "
    "become gradient descent.",
    "Make eps smaller or the gradients larger, if that is not meant.",
)  # fmt: skip
DEAD = Rule(
    "dead", 0.2,
    "{value:.0%} of the weights of {name} never had a gradient up to step {step}.",
    "Units that are dead, or rows of an embedding that no batch has asked for.",
)  # fmt: skip
STALE = Rule(
    "stale", 0.5,
    "The second moment of {value:.0%} of the weights of {name} is stale since step {since}: over a "
    "thousand times what their gradient is now.",
    "Their steps are held small by what is long gone: a smaller alpha forgets it.",
)  # fmt: skip
FAST = Rule(
    "relative_update", 0.1,
    "A step changes {name} by {value:.0%} of its weights since step {since}.",
    "Its learning rate is high for weights of this size.",
)  # fmt: skip
SLOW = Rule(
    "relative_update", 1e-6,
    "A step changes {name} by {value:.1g} of its weights since step {since}: it hardly moves.",
    "Its learning rate is low for weights of this size, or training has ended.",
    is_least=True,
)  # fmt: skip

THRESHOLDS = (
    "What is told: numbers that are not finite; what a guard did; a loss more than "
    f"{SPIKE:g} times the median of the {BEFORE} before it (and {DEVIATIONS:g} times as far from "
    f"it as these usually are); sharpness above its limit; a precursor above {FORESEEN:g} after "
    f"step {WARM}; and, at the last look, layers of which eps rules more than {EPS.limit:.0%}, "
    f"more than {DEAD.limit:.0%} never had a gradient or more than {STALE.limit:.0%} has a stale "
    f"second moment, or whose update is above {FAST.limit:g} or below {SLOW.limit:g} of the "
    "weights."
)


def findings(watched: Watched) -> list[Finding]:
    """At most MOST sentences."""
    spikes = loss_spikes(watched.losses)
    found = [
        *_nonfinite(watched), *_lost(watched.losses), *_events(watched.events),
        *_precursor(watched, spikes), *_spiked(watched, spikes), *_edge(watched.edges),
        *(one for rule in (EPS, FAST, DEAD, STALE, SLOW) for one in _ruled(watched, rule)),
    ]  # fmt: skip
    return found[:MOST]


def loss_spikes(losses: Mapping[int, float | None]) -> dict[int, float]:
    """By step: how many times its usual a loss was where it began to be more than SPIKE times.

    Usual is the median of up to BEFORE finite losses before it. A loss that only a noisy batch
    makes large is none: its distance from the median must be DEVIATIONS times their median one.

    >>> loss_spikes(dict(enumerate([2.0] * 30 + [50.0, 9.0, 2.0], start=1)))
    {31: 25.0}
    """
    found: dict[int, float] = {}
    recent, ordered = deque[float](), list[float]()
    is_over = False
    for step, loss in losses.items():
        if loss is None:
            continue
        usual = statistics.median(ordered) if len(ordered) >= FEWEST else 0.0
        was_over, is_over = is_over, usual > 0 and loss > SPIKE * usual
        if is_over and not was_over:
            distance = statistics.median(abs(one - usual) for one in ordered)
            if loss - usual > DEVIATIONS * distance:
                found[step] = loss / usual
        recent.append(loss)
        insort(ordered, loss)
        if len(recent) > BEFORE:
            del ordered[bisect_left(ordered, recent.popleft())]
    return found


def _nonfinite(watched: Watched) -> Iterator[Finding]:
    rows = []
    for i, name in enumerate(watched.header.names):
        known = zip(watched.looks, watched.series(i, "nonfinite"), strict=True)
        first = next(((look.step, count) for look, count in known if count), None)
        if first is not None:
            rows.append((first[0], name, f"{first[1]:.0f}"))
    yield from _shortened(
        [
            (name, f"{count} numbers of {name} (weights, gradient or state) are not finite at "
             f"step {step}.")
            for step, name, count in sorted(rows, key=_first)
        ],
        "Guard(nonfinite='skip') leaves such steps out; weights that are NaN need an earlier "
        "checkpoint.",
    )  # fmt: skip


def _lost(losses: Mapping[int, float | None]) -> Iterator[Finding]:
    steps = [step for step, loss in losses.items() if loss is None]
    if steps:
        times = "" if len(steps) == 1 else f", the first of {len(steps)} times"
        yield Finding(
            f"The loss was not finite at step {steps[0]}{times}.",
            "Look at what that batch held and at the layers of the maps below just before it.",
        )


def _events(events: Sequence[Happening]) -> Iterator[Finding]:
    alike: dict[tuple[str, str], list[Happening]] = {}
    for event in events:
        alike.setdefault((event.what, event.action), []).append(event)
    for (what, action), same in alike.items():
        first, layers = same[0], ", ".join(same[0].layers[:NAMED])
        more = len(first.layers) - NAMED
        where = f" in {layers}{f' and {more} more' if more > 0 else ''}" if layers else ""
        times = "" if len(same) == 1 else f", {len(same)} times, first"
        yield Finding(
            f"{what[:1].upper()}{what[1:]}{where}{times} at step {first.step} "
            f"(batch {first.batch}): {action or 'seen'}.",
            "Look at that batch; the curve below shows what came of it.",
        )


def _precursor(watched: Watched, spikes: Mapping[int, float]) -> Iterator[Finding]:
    rows = []
    for i, name in enumerate(watched.header.names):
        known = zip(watched.looks, watched.series(i, "precursor"), strict=True)
        high = [(value, look.step) for look, value in known if value and look.step > WARM]
        if high and max(high)[0] > FORESEEN:
            rows.append((*max(high), name))
    told = []
    for value, step, name in sorted(rows, key=_first, reverse=True):
        spiked = next((at for at in spikes if step <= at <= step + FOLLOWS), None)
        end = (
            f", and the loss spiked at step {spiked}." if spiked
            else ": its gradients had outgrown their second moment."
        )  # fmt: skip
        told.append((name, f"The spike precursor of {name} was {value:.2g} at step {step}{end}"))
    yield from _shortened(
        told,
        "max_update_rms=1 bounds the step; a second moment that follows sooner (a smaller alpha) "
        "is outgrown less.",
    )


def _spiked(watched: Watched, spikes: Mapping[int, float]) -> Iterator[Finding]:
    if spikes:
        step = max(spikes, key=lambda one: spikes[one])
        times = f"{len(spikes)} times, most" if len(spikes) > 1 else "once,"
        yield Finding(
            f"The loss spiked {times} at step {step}: {watched.losses[step]:.3g}, "
            f"{spikes[step]:.2g} times what was usual before.",
            "See which layers of the maps below changed just before it.",
        )


def _edge(edges: Mapping[int, float | None]) -> Iterator[Finding]:
    above = {step: edge for step, edge in edges.items() if edge and edge > EDGE}
    if above:
        step, edge = max(above.items(), key=lambda item: item[1])
        yield Finding(
            f"The sharpness was {edge:.2g} times its limit at step {step}.",
            "Steps overshoot along the sharpest direction. On a batch that is noisy this is usual; "
            "where the loss rises too, lower the learning rate.",
        )


def _ruled(watched: Watched, rule: Rule) -> Iterator[Finding]:
    rows = []
    for i, name in enumerate(watched.header.names):
        known = [
            (look.step, value)
            for look, value in zip(watched.looks, watched.series(i, rule.number), strict=True)
            if value is not None
        ]
        if known and rule.holds(known[-1][1]):
            step, value = known[-1]
            since = step
            for at, earlier in reversed(known):
                if not rule.holds(earlier):
                    break
                since = at
            words = {"name": name, "value": value, "step": step, "since": since}
            text = rule.text.format(**words, optimizer=watched.header.optimizer)
            rows.append((value if rule.is_least else -value, name, text))
    yield from _shortened([(name, text) for _, name, text in sorted(rows, key=_first)], rule.advice)


def _shortened(told: Sequence[tuple[str, str]], advice: str) -> Iterator[Finding]:
    """The first sentences of a kind; the last of them counts the layers of the others."""
    rest = [name for name, _ in told[TOLD:]]
    for place, (_, text) in enumerate(told[:TOLD], start=1):
        if place == TOLD and rest:
            names = ", ".join(rest[:NAMED]) + (", …" if len(rest) > NAMED else "")
            text += f" The same holds for {len(rest)} more: {names}."
        yield Finding(text, advice)
