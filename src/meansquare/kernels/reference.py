"""The rule run as torch operations: any device, subclass and autograd, at torch's speed."""

import math
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
from meansquare.state import STATE_DTYPES


@dataclass(frozen=True)
class Row:
    """One parameter to step: its state, its group's hyper-parameters, its place among all."""

    parameter: Tensor
    state: dict[str, Any]
    hyper: Hyper
    ordinal: int


def step(row: Row, norm: float, unscale: float) -> None:
    """Write parameter, state and step count of one row, after all of it is computed.

    `norm` is that of all gradients, where the group limits it, once they are multiplied by
    `unscale`.
    """
    p, state = row.parameter, row.state
    new, *kept = results(row, norm, unscale)
    p.copy_(torch.complex(new[..., 0], new[..., 1]) if p.is_complex() else new)
    for name, value in zip(row.hyper.rule.buffers, kept, strict=True):
        _real(state[name]).copy_(value)
    state["step"] += 1


def results(row: Row, norm: float, unscale: float) -> list[Tensor]:
    """What a step of a row will write, none of it in the memory of what it will be written to."""
    p, state, hyper = row.parameter, row.state, row.hyper
    t = float(state["step"]) + 1
    held = [_real(state[name]) for name in hyper.rule.buffers]
    if torch.is_grad_enabled():  # autograd may want what is to be written over
        held = [buffer.clone() for buffer in held]
    streams = (_real(p).to(_real_dtype(p)), gradient_of(p), *held)
    h = hyper.at(t, precision_of(p), unscale * grad_scale(hyper, norm))
    h.update_scale = _update_scale(hyper, h, streams)
    out = hyper.rule.update(h, *streams)
    new, *kept = (_apart(x, streams) for x in (out if isinstance(out, tuple) else (out,)))
    if p.dtype in (torch.bfloat16, torch.float16):
        key = dice_key(hyper.seed, row.ordinal, int(t))
        new = round_stochastically(new, p.dtype, random_bits(p, key))
    return [new, *kept]


def _apart(result: Any, streams: tuple[Tensor, ...]) -> Tensor:
    """A rule's result as a tensor of its own: it may be a number, or what another stream held."""
    if any(result is stream for stream in streams):
        return result.clone()
    if isinstance(result, Tensor):
        return result
    return torch.full_like(streams[0], float(result))


def gradient_of(p: Tensor) -> Tensor:
    """The gradient as real numbers in the precision that `p` is stepped in."""
    assert p.grad is not None
    return _real(p.grad).to(_real_dtype(p))


def squares_of(p: Tensor) -> float:
    """The sum of the squares of a gradient, in double precision."""
    return gradient_of(p).detach().double().square().sum().item()


def grad_scale(hyper: Hyper, norm: float) -> float:
    """The factor that brings gradients of a norm down to the most that there may be."""
    most, least = hyper.max_grad_norm, norm + hyper.norm_eps
    scale = math.inf if most is None or least == 0 else most / least
    return 1.0 if scale >= 1 else scale


def _update_scale(hyper: Hyper, h: Any, streams: tuple[Tensor, ...]) -> float:
    """The factor on an update that is measured before it is made."""
    rule, most, measure = hyper.rule, hyper.max_update, hyper.rule.measure
    if measure is None or not (measure.is_share or most) or streams[0].numel() == 0:
        return 1.0
    p, g, *buffers = (x.detach() for x in streams)
    taken = (buffers[rule.buffers.index(name)] for name in measure.buffers)
    return measure.scale(measure.of(h, p, g, *taken).double().mean().item(), most)


def _real(t: Tensor) -> Tensor:
    """A complex tensor as pairs of real numbers (a copy where it is a lazy conjugate)."""
    return torch.view_as_real(t.resolve_conj()) if t.is_complex() else t


def _real_dtype(p: Tensor) -> torch.dtype:
    return STATE_DTYPES[p.dtype].to_real()
