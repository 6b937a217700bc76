"""Hazards in the numbers of a state: what rounding has done to them, or will."""

from collections.abc import Iterator

import torch
from torch import Tensor

from meansquare.diagnosis.finding import Finding
from meansquare.diagnosis.patient import Group, Held, Patient, divisor
from meansquare.hyper import VARIANCE_FLOOR

HALF = (torch.bfloat16, torch.float16)
LONG = 10.0
"""Steps of so many lr, for a gradient like its mean, are too long."""


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


def impossible_settings(patient: Patient) -> Iterator[Finding]:
    """Settings that no RMSProp of ours takes."""
    for group in patient.groups:
        if group.wrong:
            remedy = "set it, in the optimizer's param_groups, before the next step"
            yield Finding("impossible setting", group.where, group.wrong, remedy)


def centered_variance(patient: Patient) -> Iterator[Finding]:
    """v - m*m that is all rounding."""
    for group, held in patient.each():
        v, m, hyper = held.get("square_avg"), held.get("grad_avg"), group.hyper
        if hyper is None or not hyper.centered or v is None or m is None or v.shape != m.shape:
            continue
        floor = VARIANCE_FLOOR["float64" if _is_wide(held) else "float32"]
        c = 1 - hyper.alpha**held.step if hyper.bias_correction and held.step else 1.0
        variance = (
            _as_stored(held, "square_avg") / c - (_as_stored(held, "grad_avg") / c) ** 2
        ).double()
        lost = (variance < v / c * floor) & (v > 0)
        if not lost.any():
            continue
        length = (m / c).abs() / divisor(hyper, variance.maximum(v / c * floor))
        nan, longest = int((variance[lost] < 0).sum()), length[lost].max().item()
        if longest < LONG:
            continue
        share = "2**-49" if _is_wide(held) else "2**-20"
        evidence = (
            f"{int(lost.sum())} of {v.numel()} weights have v - m*m below v*{share}, {nan} of them "
            f"below 0 (NaN in theirs); held there, a gradient like its mean still makes "
            f"{longest:,.0f} lr"
        )
        remedy = "a larger eps, or centered=False"
        if group.maker != "meansquare" and not _is_wide(held):
            remedy = f"meansquare.RMSProp, which holds the variance there, {remedy}"
        yield Finding("centered variance near zero", held.name, evidence, remedy)


def _is_wide(held: Held) -> bool:
    return held.stored["square_avg"].dtype in (torch.float64, torch.complex128)


def _as_stored(held: Held, name: str) -> Tensor:
    """A buffer in the precision that its optimizer computes with."""
    stored = held.stored[name].detach().cpu()
    stored = torch.view_as_real(stored.resolve_conj()) if stored.is_complex() else stored
    return stored if stored.dtype != torch.uint8 else held.buffers[name].float()


def half_precision(patient: Patient) -> Iterator[Finding]:
    """Averages in 16 bits stand still, or vanish."""
    for group in patient.groups:
        dtypes = [
            held.stored[name].dtype
            for held in group.held
            for name in held.buffers
            if held.stored[name].dtype in HALF
        ]
        if not dtypes:
            continue
        alpha = group.hyper.alpha if group.hyper else 0.99
        reach = torch.finfo(dtypes[0]).eps / 4 / (1 - alpha)
        zeros, total = _zeros_in(group)
        evidence = (
            f"{_name(dtypes[0])} in {len(dtypes)} buffers: at alpha={alpha:g} an average stands "
            f"still while what enters is within {reach:.0%} of it; {zeros} of {total} second "
            "moments are 0"
        )
        remedy = "meansquare.RMSProp, which keeps float32 state for 16-bit weights"
        yield Finding("half-precision state", group.where, evidence, remedy)


def _zeros_in(group: Group) -> tuple[int, int]:
    """How many second moments are zero, of how many."""
    squares = [v for held in group.held if (v := held.get("square_avg")) is not None]
    return sum(int((v == 0).sum()) for v in squares), sum(v.numel() for v in squares)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def stuck_moments(patient: Patient) -> Iterator[Finding]:
    """8-bit codes so far apart that an average rounds back to where it was."""
    for group, held in patient.each():
        v = held.get("square_avg")
        if v is None or group.hyper is None or held.stored["square_avg"].dtype != torch.uint8:
            continue
        table = held.stored["qmap1"].detach().cpu().double().flatten()
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
    """An eps that is nothing in the precision that its optimizer computes with."""
    for group in patient.groups:
        if group.hyper is None or group.maker == "meansquare":
            continue
        eps, (zeros, total) = group.hyper.eps, _zeros_in(group)
        for dtype in {held.stored[name].dtype for held in group.held for name in held.buffers}:
            vanishes = dtype.is_floating_point and float(torch.tensor(eps, dtype=dtype)) == 0
            if vanishes and (zeros or dtype in HALF):
                evidence = (
                    f"eps={eps:g} is 0 in {_name(dtype)}, and {zeros} of {total} second moments "
                    "are 0: a gradient of zero gives 0/0 there"
                )
                remedy = "a larger eps, or meansquare.RMSProp, which divides nothing by nothing"
                yield Finding("eps too small", group.where, evidence, remedy)
