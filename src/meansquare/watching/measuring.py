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
        for p in group["params"]:
            if p.grad is not None and p in before and before[p].numel():
                state = optimizer.state.get(p, {})
                how = divisor_of(group, state)
                steps = 0.0 if how is None or how.decay is None else steps_of(state)
                kinds[Kind(how, rate_of(group, state), steps)].append(p)
    numbers = {}
    for kind, params in kinds.items():
        numbers |= _of_kind(kind, params, optimizer, before, most)
    return numbers


def _of_kind(
    kind: Kind, params: Sequence[Tensor], optimizer: Optimizer, before: Any, most: int | None
) -> dict[Tensor, Numbers]:
    lengths = np.array([before[p].numel() for p in params])
    starts = np.cumsum(lengths) - lengths
    buffers = {
        name: joined([picked(optimizer.state[p][name], most) for p in params])
        for name in kind.buffers
    }
    after = joined([picked(p, most) for p in params])
    gradient = joined([picked(p.grad, most) for p in params])  # type: ignore[arg-type]
    sums = [values.sum() for values in (after, gradient, *buffers.values())]
    scale = _loss_scale(optimizer)
    seen = Seen(
        starts,
        lengths,
        joined([before[p] for p in params]),
        after,
        gradient if scale == 1 else gradient / scale,
        kind.rate,
    )
    if kind.divisor is not None:
        root = kind.divisor.root(buffers, kind.steps)
        divided = kind.divisor.with_eps(root)
        seen = seen._replace(root=root, divisor=divided, least_root=kind.divisor.least_root)
    with np.errstate(all="ignore"):  # what is not finite is counted, and its figures are told so
        columns = {name: probe(seen) for name, probe in PROBES.items()}
    counts = _counts(kind, params, optimizer, all(map(math.isfinite, sums)), most)
    return {
        p: {name: column and column[i] for name, column in columns.items()} | {"nonfinite": count}
        for i, (p, count) in enumerate(zip(params, counts, strict=True))
    }


def _counts(
    kind: Kind, params: Sequence[Tensor], optimizer: Optimizer, finite: bool, most: int | None
) -> list[int]:
    """How many numbers of each parameter, its gradient and its state are not finite.

    `finite` tells that all that was picked is: small tensors are not read again then.
    """
    counts = []
    for p in params:
        state = optimizer.state.get(p, {})
        whole = finite and (most is None or p.numel() * 2 <= most)  # twice: complex numbers
        known = ("step", *kind.buffers) if whole else ("step",)
        tensors = [state[name] for name in state if name not in known and _is_buffer(state[name])]
        tensors += [] if whole else [t for t in (p, p.grad) if t is not None]
        counts.append(sum(map(nonfinite, tensors)))
    return counts


def _is_buffer(value: Any) -> bool:
    """Whether it is one of the tensors of a state, and not a count of steps."""
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


def _loss_scale(optimizer: Optimizer) -> float:
    """What a GradScaler multiplied the loss by, where gradients are still so."""
    scale = getattr(optimizer, "grad_scale", None)
    # Optimizers of torch that take it write the gradients back without it.
    ours = isinstance(optimizer, FusedOptimizer)
    return float(scale) if scale is not None and ours else 1.0
