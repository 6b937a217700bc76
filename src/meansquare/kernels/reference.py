"""The rule run as torch operations: any device, subclass and autograd, at torch's speed."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from meansquare.kernels.storage import (
    dice_key,
    precision_of,
    random_bits,
    round_stochastically,
)
from meansquare.rules import Coefficients, Streams, fold, rmsprop
from meansquare.spec import Hyper


@dataclass(frozen=True)
class Row:
    """One parameter to step: its state, its group's hyper-parameters, its place among all."""

    parameter: Tensor
    state: dict[str, Any]
    hyper: Hyper
    ordinal: int


def step(row: Row) -> None:
    """Write parameter, state and step count of one row, after all of it is computed."""
    p, state = row.parameter, row.state
    t = float(state["step"]) + 1
    h = fold(row.hyper, t, precision_of(p))
    buffers = {name: _real(state[name]) for name in row.hyper.spec.buffers}
    out = _run(row, h, buffers)
    new = out.p
    if p.dtype in (torch.bfloat16, torch.float16):
        key = dice_key(row.hyper.seed, row.ordinal, int(t))
        new = round_stochastically(new, p.dtype, random_bits(p, key))
    p.copy_(torch.complex(new[..., 0], new[..., 1]) if p.is_complex() else new)
    for name, buffer in buffers.items():
        buffer.copy_(getattr(out, LETTERS[name]))
    state["step"] += 1


LETTERS = {"square_avg": "v", "grad_avg": "m", "momentum_buffer": "b"}


def _run(row: Row, h: Coefficients, buffers: dict[str, Tensor]) -> Streams:
    """What parameter and buffers become, as real numbers."""
    gradient = row.parameter.grad
    assert gradient is not None
    p, dtype = _real(row.parameter), buffers["square_avg"].dtype
    streams = {LETTERS[name]: buffer for name, buffer in buffers.items()}
    return rmsprop(row.hyper.spec, h, p.to(dtype), _real(gradient).to(dtype), **streams)


def _real(t: Tensor) -> Tensor:
    """A complex tensor as pairs of real numbers (a copy where it is a lazy conjugate)."""
    return torch.view_as_real(t.resolve_conj()) if t.is_complex() else t
