"""Hazards in the numbers of a state: what rounding has done to them, or will."""

from collections.abc import Iterator

import torch
from torch import Tensor

from meansquare.diagnosis.finding import Finding
from meansquare.diagnosis.patient import Group, Held, Patient, divisor
from meansquare.family import VARIANCE_FLOOR

HALF = (torch.bfloat16, torch.float16)


def broken_state(patient: Patient) -> Iterator[Finding]:
    """Numbers that no step leaves behind."""
    for _, held in patient.each():
        for name, values in held.buffers.items():
            lost = int((~values.isfinite()).sum())
            below = int((values < 0).sum()) if name == "square_avg" else 0
            if lost or below:
                what = f"{lost} not finite" if lost else f"{below} negative"
                evidence = f"of {values.numel()} numbers in '{name}' {what}"
                remedy = "go back to an earlier checkpoint, and clip or skip what came in between"
                yield Finding("broken state", held.name, evidence, remedy)


def centered_variance(patient: Patient) -> Iterator[Finding]:
    """v - m*m that is all rounding."""
    for group, held in patient.each():
        v, m, hyper = held.get("square_avg"), held.get("grad_avg"), group.hyper
        if hyper is None or not hyper.centered or v is None or m is None:
            continue
        precision = "float64" if held.stored["square_avg"].dtype == torch.float64 else "float32"
        variance = (_as_stored(held, "square_avg") - _as_stored(held, "grad_avg") ** 2).double()
        lost = (variance < v * VARIANCE_FLOOR[precision]) & (v > 0)
        if not lost.any():
            continue
        nan, count = int((variance[lost] < 0).sum()), int(lost.sum())
        held_up = variance.maximum(v * VARIANCE_FLOOR[precision])
        longest = (m.abs() / divisor(hyper, held_up))[lost].max().item()
        evidence = (
            f"{count} of {v.numel()} weights have v - m*m below v*2**-20, {nan} of them below 0 "
            f"(NaN in theirs); held there, a gradient like its mean still makes {longest:,.0f} lr"
        )
        remedy = "centered=False"
        if group.maker != "meansquare":
            remedy = "meansquare.RMSProp, which holds the variance there, or centered=False"
        yield Finding("centered variance near zero", held.name, evidence, remedy)


def _as_stored(held: Held, name: str) -> Tensor:
    """A buffer in the precision that its optimizer computes with."""
    stored = held.stored[name].detach().cpu()
    stored = torch.view_as_real(stored.resolve_conj()) if stored.is_complex() else stored
    return stored if stored.dtype != torch.uint8 else held.buffers[name].float()


def half_precision(patient: Patient) -> Iterator[Finding]:
    """Averages in 16 bits stand still, or vanish."""
    for group in patient.groups:
        halves = [
            (held, name)
            for held in group.held
            for name in held.buffers
            if held.stored[name].dtype in HALF
        ]
        if not halves:
            continue
        held, name = halves[0]
        dtype = held.stored[name].dtype
        alpha = group.hyper.alpha if group.hyper else 0.99
        reach = torch.finfo(dtype).eps / 4 / (1 - alpha)
        zeros, total = _zeros_in(group)
        evidence = (
            f"{_name(dtype)} in {len(halves)} buffers: at alpha={alpha:g} an average stands still "
            f"while what enters is within {reach:.0%} of it; {zeros} of {total} second moments "
            "are 0"
        )
        remedy = "meansquare.RMSProp, which keeps float32 state for 16-bit weights"
        yield Finding("half-precision state", group.where, evidence, remedy)


def _zeros(values: Tensor) -> int:
    return int((values == 0).sum())


def _zeros_in(group: Group) -> tuple[int, int]:
    """How many second moments are zero, of how many."""
    squares = [v for held in group.held if (v := held.get("square_avg")) is not None]
    return sum(map(_zeros, squares)), sum(v.numel() for v in squares)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def stuck_moments(patient: Patient) -> Iterator[Finding]:
    """8-bit codes so far apart that an average rounds back to where it was."""
    for group, held in patient.each():
        v = held.get("square_avg")
        if v is None or group.hyper is None or held.stored["square_avg"].dtype != torch.uint8:
            continue
        table = held.stored["qmap1"].detach().cpu().double()
        codes = held.stored["square_avg"].detach().cpu().long()
        between = (table[1:] + table[:-1]) / 2
        fallen = torch.searchsorted(between, group.hyper.alpha * table[codes])
        stuck = int(((fallen == codes) & (v > 0)).sum())
        if stuck:
            evidence = (
                f"{stuck} of {v.numel()} second moments round back to their 8-bit code when "
                f"alpha={group.hyper.alpha:g} of them is stored: beside one that stays large they "
                "cannot fall, and their steps stay short"
            )
            remedy = "32 bits of state (optim_bits=32)"
            yield Finding("second moments that cannot fall", held.name, evidence, remedy)


def small_eps(patient: Patient) -> Iterator[Finding]:
    """An eps that is nothing in the precision of the state."""
    for group in patient.groups:
        eps = group.hyper.eps if group.hyper else 0.0
        dtypes = {held.stored[n].dtype for held in group.held for n in held.buffers}
        for dtype in dtypes & {*HALF}:
            if eps == 0 or float(torch.tensor(eps, dtype=dtype)) != 0:
                continue
            zeros, total = _zeros_in(group)
            evidence = (
                f"eps={eps:g} is 0 in {_name(dtype)}, and {zeros} of {total} second moments are 0: "
                "a gradient of zero gives 0/0 there"
            )
            remedy = "eps=1e-4, or meansquare.RMSProp, which computes in float32"
            yield Finding("eps too small", group.where, evidence, remedy)
