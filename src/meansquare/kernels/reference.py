"""The rule run as torch operations: any device, subclass and autograd, at torch's speed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from meansquare.hyper import Hyper
from meansquare.kernels.storage import (
    dice_key,
    precision_of,
    random_bits,
    round_stochastically,
)
from meansquare.parts import Part
from meansquare.state import STATE_DTYPES


@dataclass(frozen=True)
class Row:
    """One parameter to step: its gradient and state, its group's hyper-parameters, its place among
    all, and that of its elements where it is a part of a distributed tensor.
    """

    parameter: Tensor
    gradient: Tensor
    state: Mapping[str, Any]
    hyper: Hyper
    ordinal: int
    place: Part | None = None


@dataclass(frozen=True)
class Scales:
    """What a step multiplies gradients by, and knows of all of them.

    `norm` is that of all gradients whose group limits it, times `unscale`; `measured` is the sum of
    what the row's rule measures, over all parts of the tensor, or None: it is measured here.
    """

    unscale: float = 1.0
    norm: float = 0.0
    measured: float | None = None


def step(row: Row, scales: Scales) -> None:
    """Write parameter, state and step count of one row, after all of it is computed."""
    p, state = row.parameter, row.state
    new, *kept = results(row, scales)
    p.copy_(torch.complex(new[..., 0], new[..., 1]) if p.is_complex() else new)
    for name, value in zip(row.hyper.rule.buffers, kept, strict=True):
        _real(state[name]).copy_(value)
    state["step"].add_(1)


def results(row: Row, scales: Scales) -> list[Tensor]:
    """What a step of a row will write, none of it in the memory of what it will be written to."""
    p, hyper = row.parameter, row.hyper
    streams, h = _streams(row), _numbers(row, scales)
    h.update_scale = _update_scale(row, scales, streams)
    out = hyper.rule.update(h, *streams)
    new, *kept = (_apart(x, streams) for x in (out if isinstance(out, tuple) else (out,)))
    if p.dtype in (torch.bfloat16, torch.float16):
        key = dice_key(hyper.seed, row.ordinal, int(h.t))
        new = round_stochastically(new, p.dtype, random_bits(p, key, row.place))
    return [new, *kept]


def _streams(row: Row) -> tuple[Tensor, ...]:
    """Parameter, gradient and buffers as real numbers, in the precision of the step."""
    held = [_real(row.state[name]) for name in row.hyper.rule.buffers]
    if torch.is_grad_enabled():  # autograd may want what is to be written over
        held = [buffer.clone() for buffer in held]
    dtype = STATE_DTYPES[row.parameter.dtype].to_real()
    return _real(row.parameter).to(dtype), _real(row.gradient).to(dtype), *held


def _numbers(row: Row, scales: Scales) -> Any:
    scale = scales.unscale * grad_scale(row.hyper, scales.norm)
    return row.hyper.at(float(row.state["step"]) + 1, precision_of(row.parameter), scale)


def _apart(result: Any, streams: tuple[Tensor, ...]) -> Tensor:
    """A rule's result as a tensor of its own: it may be a number, or what another stream held."""
    if any(result is stream for stream in streams):
        return result.clone()
    if isinstance(result, Tensor):
        return result
    return torch.full_like(streams[0], float(result))


def squares_of(row: Row) -> float:
    """The sum of the squares of a gradient, in double precision."""
    return _streams(row)[1].detach().double().square().sum().item()


def update_of(row: Row, scales: Scales) -> float:
    """The sum over a row of what its rule measures."""
    measure, (p, g, *buffers) = row.hyper.rule.measure, (x.detach() for x in _streams(row))
    assert measure is not None
    taken = (buffers[row.hyper.rule.buffers.index(name)] for name in measure.buffers)
    return measure.of(_numbers(row, scales), p, g, *taken).double().sum().item()


def grad_scale(hyper: Hyper, norm: float) -> float:
    """The factor that brings gradients of a norm down to the most that there may be."""
    most, least = hyper.max_grad_norm, norm + hyper.norm_eps
    scale = math.inf if most is None or least == 0 else most / least
    return 1.0 if scale >= 1 else scale


def _update_scale(row: Row, scales: Scales, streams: tuple[Tensor, ...]) -> float:
    """The factor on an update that is measured before it is made."""
    hyper, measure = row.hyper, row.hyper.rule.measure
    if not hyper.measures or measure is None or streams[0].numel() == 0:
        return 1.0
    summed = update_of(row, scales) if scales.measured is None else scales.measured
    count = row.place.whole if row.place else streams[0].numel()
    return measure.scale(summed / count, hyper.max_update)


def _real(t: Tensor) -> Tensor:
    """A complex tensor as pairs of real numbers (a copy where it is a lazy conjugate)."""
    return torch.view_as_real(t.resolve_conj()) if t.is_complex() else t
