"""What stands out in a watched training, as sentences, the gravest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from meansquare.lab.watch_file import Watched

EPS_SHARE, SILENT_SHARE, STALE_SHARE = 0.5, 0.25, 0.5
FORESEEN = 3.0  # of the precursor: gradients three times what v has settled on
WARM = 100  # steps after which the precursor is no matter of an average that begins at zero
FAST, SLOW = 0.1, 1e-6  # of the weights, in one step
EDGE = 1.0
MOST = 12


@dataclass(frozen=True)
class Finding:
    """One sentence, and what to do about it."""

    text: str
    advice: str


RULES = (
    f"A finding is told where eps rules more than {EPS_SHARE:.0%} of a layer at the last look, "
    f"where the precursor exceeds {FORESEEN:g} after step {WARM}, where more than "
    f"{SILENT_SHARE:.0%} of a layer never had a gradient or more than {STALE_SHARE:.0%} has a "
    f"stale second moment, where an update is more than {FAST:g} or less than {SLOW:g} of the "
    "weights, where numbers are not finite, and where the sharpness is above its limit."
)


def findings(watched: Watched) -> list[Finding]:
    """At most MOST sentences."""
    found = [
        *_events(watched), *_nonfinite(watched), *_edge(watched), *_precursor(watched),
        *_eps(watched), *_silent(watched), *_stale(watched), *_speed(watched),
    ]  # fmt: skip
    return found[:MOST]


def _events(watched: Watched) -> Iterator[Finding]:
    by_kind: dict[tuple[str, str], list] = {}
    for event in watched.events:
        by_kind.setdefault((event.what, event.action), []).append(event)
    for (what, action), events in by_kind.items():
        first, layers = events[0], ", ".join(events[0].layers[:3])
        times = "" if len(events) == 1 else f", {len(events)} times, first"
        where = f" in {layers}" if layers else ""
        yield Finding(
            f"{what[:1].upper()}{what[1:]}{where}{times} at step {first.step} "
            f"(batch {first.batch}): {action or 'seen'}.",
            "Look at that batch; the curve below shows what came of it.",
        )


def _nonfinite(watched: Watched) -> Iterator[Finding]:
    for i, name in enumerate(watched.names):
        at = _first(watched, i, "nonfinite", lambda count: count > 0)
        if at is not None:
            step, count = at
            yield Finding(
                f"{count:.0f} numbers of {name} (weights, gradient or state) are not finite at "
                f"step {step}.",
                "Guard(nonfinite='skip') leaves such steps out; weights that are NaN need an "
                "earlier checkpoint.",
            )


def _edge(watched: Watched) -> Iterator[Finding]:
    above = {step: edge for step, edge in watched.edges.items() if edge and edge > EDGE}
    if above:
        step, edge = max(above.items(), key=lambda item: item[1])
        yield Finding(
            f"The sharpness was {edge:.2g} times its limit at step {step}.",
            "Steps overshoot along the sharpest direction. On a batch that is noisy this is usual; "
            "where the loss rises too, lower the learning rate.",
        )


def _precursor(watched: Watched) -> Iterator[Finding]:
    for i, name in enumerate(watched.names):
        rows = zip(watched.looks, watched.series(i, "precursor"), strict=True)
        high = [(value, look.step) for look, value in rows if value and look.step > WARM]
        if high and max(high)[0] > FORESEEN:
            value, step = max(high)
            yield Finding(
                f"The spike precursor of {name} was {value:.2g} at step {step}: its gradients had "
                "outgrown their second moment.",
                "A spike of the loss often follows within some steps: max_update_rms=1 bounds the "
                "step, a larger alpha keeps v longer.",
            )


def _eps(watched: Watched) -> Iterator[Finding]:
    for i, name, share in _last(watched, "eps_rules"):
        if share > EPS_SHARE:
            since = _since(watched, i, "eps_rules", EPS_SHARE)
            yield Finding(
                f"eps rules {share:.0%} of the weights of {name} since step {since}: there RMSProp "
                "has become gradient descent.",
                "Make eps smaller if that is not meant.",
            )


def _silent(watched: Watched) -> Iterator[Finding]:
    for _, name, share in _last(watched, "dead"):
        if share > SILENT_SHARE:
            yield Finding(
                f"{share:.0%} of the weights of {name} never had a gradient.",
                "Units that are dead, or rows of an embedding that no batch has asked for.",
            )


def _stale(watched: Watched) -> Iterator[Finding]:
    for _, name, share in _last(watched, "stale"):
        if share > STALE_SHARE:
            yield Finding(
                f"The second moment of {share:.0%} of the weights of {name} is stale: a thousand "
                "times what their gradient is now.",
                "Their steps are held small by what is long gone: a smaller alpha forgets it.",
            )


def _speed(watched: Watched) -> Iterator[Finding]:
    for _, name, share in _last(watched, "relative_update"):
        if share > FAST:
            yield Finding(
                f"A step changes {name} by {share:.0%} of its weights.",
                "Its learning rate is high for weights of this size.",
            )
        elif share < SLOW:
            yield Finding(
                f"A step changes {name} by {share:.1g} of its weights: it hardly moves.",
                "Its learning rate is low for weights of this size, or training has ended.",
            )


def _last(watched: Watched, number: str) -> Iterator[tuple[int, str, float]]:
    """Of every tensor its last value that there is."""
    for i, name in enumerate(watched.names):
        known = [value for value in watched.series(i, number) if value is not None]
        if known:
            yield i, name, known[-1]


def _first(watched: Watched, tensor: int, number: str, holds) -> tuple[int, float] | None:
    rows = zip(watched.looks, watched.series(tensor, number), strict=True)
    return next(((look.step, v) for look, v in rows if v is not None and holds(v)), None)


def _since(watched: Watched, tensor: int, number: str, above: float) -> int:
    """The look from which on a number stayed above."""
    since = watched.looks[-1].step
    for look, value in zip(
        reversed(watched.looks), reversed(watched.series(tensor, number)), strict=True
    ):
        if value is not None and value <= above:
            break
        since = look.step
    return since
