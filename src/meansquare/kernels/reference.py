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
from meansquare.rules import Coefficients, fold, rmsprop
from meansquare.spec import Hyper


@dataclass(frozen=True)
class Row:
    """One parameter to step: its state, its group's hyper-parameters, its place among all."""

    parameter: Tensor
    state: dict[str, Any]
    hyper: Hyper
    ordinal: int


def step(row: Row) -> None:
    """Write parameter, state and step count of one row."""
    p, state = row.parameter, row.state
    state["step"] += 1
    t = float(state["step"])
    h = fold(row.hyper, t, precision_of(p))
    buffers = {name: _real(state[name]) for name in row.hyper.spec.buffers}
    new = _run(row, h, buffers)
    if p.dtype in (torch.bfloat16, torch.float16):
        key = dice_key(row.hyper.seed, row.ordinal, int(t))
        new = round_stochastically(new, p.dtype, random_bits(p, key))
    p.copy_(torch.complex(new[..., 0], new[..., 1]) if p.is_complex() else new)


def _run(row: Row, h: Coefficients, buffers: dict[str, Tensor]) -> Tensor:
    """What the parameter becomes, as real numbers; the buffers are written."""
    gradient = row.parameter.grad
    assert gradient is not None
    p, dtype = _real(row.parameter), buffers["square_avg"].dtype
    names = {"v": "square_avg", "m": "grad_avg", "b": "momentum_buffer"}
    streams = {letter: buffers[name] for letter, name in names.items() if name in buffers}
    out = rmsprop(row.hyper.spec, h, p.to(dtype), _real(gradient).to(dtype), **streams)
    for letter, buffer in streams.items():
        buffer.copy_(getattr(out, letter))
    return out.p


def _real(t: Tensor) -> Tensor:
    """A complex tensor as pairs of real numbers (a copy where it is a lazy conjugate)."""
    return torch.view_as_real(t.resolve_conj()) if t.is_complex() else t
