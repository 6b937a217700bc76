"""Hazards in what a state is taken for: settings without effect, and readings that differ."""

import math
from collections import Counter
from collections.abc import Iterator

from meansquare.diagnosis.finding import Finding
from meansquare.diagnosis.patient import Group, Patient, divisor
from meansquare.dialects import DIALECTS
from meansquare.family import RMSPropHyper

LONG = 2.0
"""First steps this many times as long as later ones are told of."""
APART = 0.01
"""Steps of two readings that are further apart than this are told of."""
ROUNDING = 1e-5
"""What is below this share of v may be left by rounding when the first v is taken away."""
_LOOK_AHEAD = 1000  # steps, among which the longest is looked for


def first_steps(patient: Patient) -> Iterator[Finding]:
    """v that begins at zero is too small at first."""
    for group in patient.groups:
        hyper, done = group.hyper, int(group.step)
        if hyper is None or hyper.bias_correction or hyper.initial_square_avg:
            continue
        if hyper.momentum >= 1 or _stretch(hyper, done + 1) < LONG:
            continue
        if group.maker == "torch or sb3" and began_at(group) == 1:
            continue
        lengths, later = _lengths(hyper, done), 1 / (1 - hyper.momentum)
        now, peak = lengths[0], max(lengths)
        if peak < LONG * later:
            continue
        which = "the first step" if done == 0 else f"step {done + 1}"
        at = lengths.index(peak) + done + 1
        most = "" if peak == now else f", and by up to {peak:.1f} lr at step {at}"
        evidence = (
            f"at {which} a weight moves by {now:.1f} lr{most}, where it moves by {later:.1f} lr "
            "in the long run"
        )
        warm_up = f"a warm-up over some {round(1 / (1 - hyper.alpha))} steps"
        remedy = f"RMSProp(..., bias_correction=True), or {warm_up}"
        yield Finding("first steps too long", group.where, evidence, remedy)


def _stretch(hyper: RMSPropHyper, t: int) -> float:
    """How many times too long g/sqrt(v) is at step t."""
    return 1 / math.sqrt(1 - hyper.alpha**t)


def _lengths(hyper: RMSPropHyper, done: int) -> list[float]:
    """How far a weight moves in the next steps, in lr, under gradients of one size and sign."""
    b, lengths = 0.0, []
    for t in range(1, done + _LOOK_AHEAD):
        b = hyper.momentum * b + _stretch(hyper, t)
        lengths.append(b)
    return lengths[done:]


def ignored_momentum(patient: Patient) -> Iterator[Finding]:
    """Momentum that its library does not read."""
    for group in patient.groups:
        if group.maker == "bitsandbytes" and (mu := group.settings["betas"][1]):
            kept = sum(bool(held.stored) for held in group.held)
            evidence = (
                f"momentum is {mu:g} there, and of {kept} parameters with state none has a buffer "
                "for it"
            )
            remedy = (
                f"momentum=0, which is what it computes, or meansquare.RMSProp(momentum={mu:g})"
            )
            yield Finding("momentum ignored by its library", group.where, evidence, remedy)


def missing_buffers(patient: Patient) -> Iterator[Finding]:
    """A setting that was switched on after the state was made."""
    for group in patient.groups:
        hyper = group.hyper
        if hyper is None or group.maker in ("meansquare", "bitsandbytes"):
            continue
        wanted = {"momentum_buffer": hyper.momentum > 0, "grad_avg": hyper.centered}
        kept = [held for held in group.held if held.stored]
        for name in (name for name, is_wanted in wanted.items() if is_wanted):
            lacking = sum(name not in held.stored for held in kept)
            if lacking:
                evidence = f"{lacking} of {len(kept)} parameters with state have no '{name}'"
                remedy = "meansquare.RMSProp, which begins it at 0; theirs raises KeyError"
                yield Finding("setting without its state", group.where, evidence, remedy)


def positions(patient: Patient) -> Iterator[Finding]:
    """Parameters that only their place tells apart."""
    for group in patient.groups:
        shapes = Counter(held.shape for held in group.held if held.stored)
        alike = {shape: n for shape, n in shapes.items() if n > 1}
        if group.names or not alike:
            continue
        shape, most = max(alike.items(), key=lambda item: item[1])
        evidence = (
            f"its parameters have no names, and {sum(alike.values())} of {len(group.held)} share "
            f"their shape ({most} are {shape}): another order loads with no error"
        )
        remedy = "give the optimizer model.named_parameters() and save it again"
        yield Finding("loading by position", group.where, evidence, remedy)


def reinterpretation(patient: Patient) -> Iterator[Finding]:
    """A state dict that torch's RMSprop would take for its own."""
    for group in patient.groups:
        dialect, began = group.maker if group.maker == "timm" else "sb3", began_at(group)
        if group.hyper is None or group.maker not in ("timm", "sb3", "torch or sb3"):
            continue
        if group.maker == "torch or sb3" and began == 0:
            continue
        effects = [*_effects(group, dialect)]
        if not effects:
            continue
        label = DIALECTS[dialect].label
        origin = f"it is of {label}"
        if group.maker == "torch or sb3":
            origin = f"its keys are torch's and those of {label} alike"
            origin += "" if began is None else ", and no v is below alpha**t, so it began at 1"
        evidence = f"{origin}; torch.optim.RMSprop loads it too, and {' and '.join(effects)}"
        remedy = f"meansquare.RMSProp(dialect={dialect!r})"
        yield Finding("about to be reinterpreted", group.where, evidence, remedy)


def _effects(group: Group, dialect: str) -> Iterator[str]:
    """What torch's reading of a group changes."""
    gap = _gap(group, dialect, "torch")
    if gap > 1 + APART:
        yield f"makes steps up to {gap:.3g} times as long or short, for the gradients seen so far"
    moved = any(held.get("momentum_buffer") is not None for held in group.held)
    if moved and group.hyper and group.hyper.lr_in_momentum:
        yield f"multiplies its momentum, which has lr in it, by lr={group.hyper.lr:g} once more"


def began_at(group: Group) -> int | None:
    """Whether v began at 1 or 0, as far as it tells: what began at 1 is never below alpha**t."""
    for held in group.held:
        v, rest = held.get("square_avg"), group.hyper.alpha**held.step if group.hyper else 0.0
        if v is not None and rest > 1e-30:
            return int(bool((v >= rest * (1 - 1e-3)).all()))
    return None


def _gap(group: Group, dialect: str, other: str) -> float:
    """The factor between steps of two dialects, once v is the mean of the squares seen so far."""
    assert group.hyper is not None
    own = {name: getattr(group.hyper, name) for name in ("eps", "momentum", "alpha", "lr")}
    one, two = (DIALECTS[name].hyper(**own) for name in (dialect, other))
    gaps = [1.0]
    for held in group.held:
        v = held.get("square_avg")
        if v is None or not v.numel():
            continue
        rest = group.hyper.alpha**held.step
        seen = v - rest * one.initial_square_avg
        seen = seen[seen > v * ROUNDING] / (1 - rest)
        ratio = divisor(one, seen) / divisor(two, seen)
        gaps += [ratio.maximum(1 / ratio).max().item()] if ratio.numel() else []
    return max(gaps)
