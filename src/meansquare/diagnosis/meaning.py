"""Hazards in what a state is taken for: settings without effect, and readings that differ."""

import math
from collections import Counter
from collections.abc import Iterator

import torch

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
_OURS_ALONE = ("nesterov", "cautious", "clip_value", "max_grad_norm", "max_update_rms")
_LOOK_BACK, _LOOK_AHEAD = 10_000, 1000  # steps that momentum remembers; among which to look


def first_steps(patient: Patient) -> Iterator[Finding]:
    """v that begins at zero is too small at first."""
    for group in patient.groups:
        hyper, done = group.hyper, int(min((held.step for held in group.kept), default=0))
        if hyper is None or not group.held or hyper.bias_correction or hyper.initial_square_avg:
            continue
        if hyper.max_update_rms is not None or hyper.momentum >= 1:
            continue
        if group.maker == "torch or sb3" and began_at(group) == 1:
            continue
        lengths, later = _lengths(hyper, done, _typical(group)), 1 / (1 - hyper.momentum)
        now, peak = lengths[0], max(lengths)
        if peak < LONG * lengths[-1]:
            continue
        which = "the first step" if done == 0 else f"step {done + 1}"
        at = lengths.index(peak) + done + 1
        most = "" if peak == now else f", and by up to {peak:.1f} lr at step {at}"
        evidence = (
            f"at {which} gradients of one size and sign move a weight by {now:.1f} lr{most}; "
            f"{later:.1f} lr is what lr, alpha and momentum are chosen for"
        )
        warm_up = f"a warm-up over some {round(1 / (1 - hyper.alpha))} steps"
        remedy = f"RMSProp(..., bias_correction=True), or {warm_up}"
        yield Finding("first steps too long", group.where, evidence, remedy)


def _typical(group: Group) -> float:
    """The size of a gradient whose squares the median of v is the mean of; infinite without any."""
    hyper = group.hyper
    assert hyper is not None
    kept = [(held.get("square_avg"), held.step) for held in group.kept]
    seen = [
        v[v > 0].flatten() / (1 - hyper.alpha**step) for v, step in kept if v is not None and step
    ]
    values = torch.cat(seen) if seen else torch.empty(0)
    return values.median().sqrt().item() if values.numel() else math.inf


def _lengths(hyper: RMSPropHyper, done: int, size: float) -> list[float]:
    """How far a weight moves in the next steps, in lr, under gradients of this size."""
    b, lengths = 0.0, []
    for t in range(max(1, done + 1 - _LOOK_BACK), done + 1 + _LOOK_AHEAD):
        share = -math.expm1(t * math.log(hyper.alpha)) if hyper.alpha else 1.0  # 1 - alpha**t
        b = hyper.momentum * b + _step(hyper, size, share)
        lengths.append(b)
    return lengths[-_LOOK_AHEAD:]


def _step(hyper: RMSPropHyper, size: float, share: float) -> float:
    """A gradient of this size over the root of so much of its square."""
    if math.isinf(size):  # eps is nothing beside it
        return 1 / math.sqrt(share)
    return size / divisor(hyper, torch.tensor(share * size * size, dtype=torch.float64)).item()


def ignored_momentum(patient: Patient) -> Iterator[Finding]:
    """Momentum that its library does not read."""
    for group in patient.groups:
        if group.maker == "bitsandbytes" and group.hyper and (mu := group.settings["betas"][1]):
            evidence = (
                f"momentum is {mu:g} there, and of {len(group.kept)} parameters with state none "
                "has a buffer for it"
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
        for name in (name for name, is_wanted in wanted.items() if is_wanted):
            lacking = sum(name not in held.stored for held in group.kept)
            if lacking:
                evidence = f"{lacking} of {len(group.kept)} parameters with state have no '{name}'"
                remedy = "meansquare.RMSProp, which begins it at 0; theirs raises KeyError"
                yield Finding("setting without its state", group.where, evidence, remedy)


def positions(patient: Patient) -> Iterator[Finding]:
    """Parameters that only their place tells apart."""
    for group in patient.groups:
        shapes = Counter(held.shape for held in group.kept)
        alike = {shape: n for shape, n in shapes.items() if n > 1}
        if group.has_names or not alike:
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
        if group.hyper is None or group.maker in ("torch", "bitsandbytes"):
            continue
        if patient.live and group.maker == "meansquare":
            continue
        began, unsure = began_at(group), group.maker == "torch or sb3"
        if unsure and began == 0:
            continue
        dialect = {"torch or sb3": "sb3", "meansquare": group.hyper.dialect}.get(
            group.maker, group.maker
        )
        hyper = DIALECTS["sb3"].hyper(**_numbers(group.hyper)) if unsure else group.hyper
        effects = [*_effects(group, hyper)]
        if not effects:
            continue
        origin = f"it is of {DIALECTS[dialect].label}"
        remedy = f"meansquare.RMSProp(dialect={dialect!r})"
        if group.maker == "meansquare":
            origin = f"it is of meansquare's dialect {dialect!r}, where it is fine"
            remedy = "meansquare.RMSProp, and not torch.optim"
        if unsure:
            origin = f"its keys are torch's and those of {DIALECTS['sb3'].label} alike"
            origin += "" if began is None else ", and no v is below alpha**t, as if it began at 1"
        evidence = f"{origin}; torch.optim.RMSprop loads it too: it {'; it '.join(effects)}"
        yield Finding("about to be reinterpreted", group.where, evidence, remedy)


def _numbers(hyper: RMSPropHyper) -> dict[str, float]:
    return {name: getattr(hyper, name) for name in ("lr", "alpha", "eps", "momentum")}


def _effects(group: Group, hyper: RMSPropHyper) -> Iterator[str]:
    """What torch's reading of a group of these settings changes."""
    gap = _gap(group, hyper, DIALECTS["torch"].hyper(**_numbers(hyper)))
    if gap > 1 + APART:
        yield f"makes steps up to {gap:.3g} times as long or short, for the gradients seen so far"
    moved = any(held.get("momentum_buffer") is not None for held in group.held)
    if moved and hyper.lr_in_momentum:
        yield f"multiplies its momentum, which has lr in it, by lr={hyper.lr:g} once more"
    steps = min((held.step for held in group.kept), default=0.0)
    if hyper.bias_correction and steps and hyper.alpha**steps > APART:
        stretch = 1 / math.sqrt(1 - hyper.alpha**steps)
        yield f"leaves out the bias correction, a factor of {stretch:.3g} at step {steps:.0f}"
    if hyper.weight_decay and hyper.weight_decay_mode != "l2":
        yield f"adds weight_decay={hyper.weight_decay:g} to the gradient, which is divided then"
    if dropped := [name for name in _OURS_ALONE if getattr(hyper, name)]:
        yield f"does not know {', '.join(dropped)}"


def began_at(group: Group) -> int | None:
    """Whether v may have begun at 1, or 0 if it did not: what began at 1 is at least alpha**t."""
    told = []
    for held in group.held:
        v, rest = held.get("square_avg"), group.hyper.alpha**held.step if group.hyper else 0.0
        if v is not None and rest > 1e-30:
            told.append(bool((v >= rest * (1 - 1e-3)).all()))
    return int(all(told)) if told else None


def _gap(group: Group, one: RMSPropHyper, two: RMSPropHyper) -> float:
    """The factor between steps of two readings, once v is the mean of the squares seen so far."""
    gaps = [1.0]
    for held in group.held:
        v = held.get("square_avg")
        rest = one.alpha**held.step
        if v is None or rest >= 1:
            continue
        seen = v - rest * one.initial_square_avg
        seen = seen[seen > v * ROUNDING] / (1 - rest)
        ratio = divisor(one, seen) / divisor(two, seen)
        gaps += [ratio.maximum(1 / ratio).max().item()] if ratio.numel() else []
    return max(gaps)
