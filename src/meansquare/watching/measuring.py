"""The probes' numbers for each parameter of an optimizer, after a step."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from meansquare.optimizers.fused import FusedOptimizer
from meansquare.watching.divisor import Divisor, divisor_of, rate_of, steps_of
from meansquare.watching.probes import PROBES, Seen
from meansquare.watching.sampled import joined, nonfinite, picked

Numbers = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """What parameters have to have in common to be measured at once."""

    divisor: Divisor | None
    rate: float
    steps: float

    @property
    def buffers(self) -> list[str]:
        how = self.divisor
        return [name for name in (how.buffer, how.mean) if name] if how else []


@torch.no_grad()
def weights_of(optimizer: Optimizer, most: int | None) -> dict[Tensor, Tensor]:
    """A copy of (at most `most` of) the weights of every parameter."""
    return {p: picked(p, most).clone() for group in optimizer.param_groups for p in group["params"]}


@torch.no_grad()
def measured(
    optimizer: Optimizer, before: Mapping[Tensor, Tensor], most: int | None
) -> dict[Tensor, Numbers]:
    """The numbers of every parameter that has a gradient, by what its weights were `before`."""
    kinds = defaultdict(list)
    for group in optimizer.param_groups:
        known, how = None, None
        for p in group["params"]:
            if p.grad is not None and p in before and before[p].numel():
                state = optimizer.state.get(p, {})
                if known is None or known != state.keys():
                    known, how = state.keys(), divisor_of(group, state)
                kinds[_kind(group, state, how)].append(p)
    numbers = {}
    for kind, params in kinds.items():
        numbers |= _of_kind(kind, params, optimizer, before, most)
    return numbers


def _kind(group: Mapping[str, Any], state: Mapping[str, Any], how: Divisor | None) -> Kind:
    """What of a parameter's step is a matter of its settings and its count alone."""
    if "betas" in group or group.get("lr_decay") or (how and how.corrected):
        return Kind(how, rate_of(group, state), steps_of(state))
    return Kind(how, float(group["lr"]), 0.0)


def _of_kind(
    kind: Kind, params: Sequence[Tensor], optimizer: Optimizer, before: Any, most: int | None
) -> dict[Tensor, Numbers]:
    lengths = np.array([before[p].numel() for p in params])
    starts = np.cumsum(lengths) - lengths
    rows = [[before[p] for p in params], params, [p.grad for p in params]]
    rows += [[optimizer.state[p][name] for p in params] for name in kind.buffers]
    picks = [picked(t, most) for row in rows[1:] for t in row]  # type: ignore[arg-type]
    whole = joined([*rows[0], *picks])
    was, after, gradient, *held = whole.reshape(len(rows), -1)
    scale = _loss_scale(optimizer)
    seen = Seen(
        starts, lengths, was, after, gradient if scale == 1 else gradient / scale, kind.rate
    )
    if kind.divisor is not None:
        root = kind.divisor.root(dict(zip(kind.buffers, held, strict=True)), kind.steps)
        divided = kind.divisor.with_eps(root)
        seen = seen._replace(root=root, divisor=divided, least_root=kind.divisor.least_root)
    with np.errstate(all="ignore"):  # what is not finite is counted, and its figures are told so
        columns = {name: probe(seen) for name, probe in PROBES.items()}
        finite = math.isfinite(whole.sum())
    told = _is_all(params, lengths) if finite else [False] * len(params)
    counts = [
        _count(p, optimizer.state.get(p, {}), kind, all_of)
        for p, all_of in zip(params, told, strict=True)
    ]
    return {
        p: {name: column and column[i] for name, column in columns.items()} | {"nonfinite": count}
        for i, (p, count) in enumerate(zip(params, counts, strict=True))
    }


def _is_all(params: Sequence[Tensor], lengths: Any) -> list[bool]:
    """Of which parameters all weights were picked."""
    return [n >= p.numel() * (1 + p.is_complex()) for p, n in zip(params, lengths, strict=True)]


def _count(p: Tensor, state: Mapping[str, Any], kind: Kind, is_known: bool) -> int:
    """How many numbers of a parameter, its gradient and its state are not finite; `is_known` tells
    that those are finite which the probes read.
    """
    known = ("step", *kind.buffers) if is_known else ("step",)
    tensors = [state[name] for name in state if name not in known and _is_buffer(state[name])]
    tensors += [] if is_known else [t for t in (p, p.grad) if t is not None]
    return sum(map(nonfinite, tensors))


def _is_buffer(value: Any) -> bool:
    """Whether it is one of the tensors of a state, and not a count of steps."""
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


def _loss_scale(optimizer: Optimizer) -> float:
    """What a GradScaler multiplied the loss by, where gradients are still so."""
    scale = getattr(optimizer, "grad_scale", None)
    # Optimizers of torch that take it write the gradients back without it.
    ours = isinstance(optimizer, FusedOptimizer)
    return float(scale) if scale is not None and ours else 1.0
