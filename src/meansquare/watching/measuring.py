"""The probes' numbers for each parameter of an optimizer, after a step."""

import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from meansquare.kernels import cpu
from meansquare.optimizers.fused import FusedOptimizer
from meansquare.watching.divisor import Divisor, divisor_of, rate_of, steps_of
from meansquare.watching.probes import PROBES, Seen
from meansquare.watching.sampled import copies, joined, nonfinite, picked

Numbers = dict[str, Any]


def number_of(x: Tensor | float) -> float | Tensor:
    """That of a tensor with one; of a GPU's a copy there, for which nothing has to wait."""
    if not isinstance(x, Tensor):
        return x
    return x.item() if x.is_cpu or type(x) is not Tensor or x.numel() != 1 else x.detach().clone()


def reader() -> Callable[[Any], float | None]:
    """What tells the number of a tensor, or None where it has to be asked for by `number_of`."""
    return (lambda _: None) if cpu.native is None else cpu.native.number_in


def numbers_of(values: Sequence[Any]) -> tuple[float, ...]:
    """Numbers, of which those that lie on a GPU are fetched at once."""
    there = [value for value in values if isinstance(value, Tensor)]
    if not there:
        return tuple([float(value) for value in values])
    fetched = iter(joined(there).tolist())
    return tuple(next(fetched) if isinstance(v, Tensor) else float(v) for v in values)


class Kind(NamedTuple):
    """What parameters have to have in common to be measured at once; csrc/kinds.h reads it."""

    divisor: Divisor | None
    correction: float
    rate: float
    is_timed: bool  # another in every step


class Before:
    """(At most `most` of) the weights of every parameter, as they are before a step: of plain
    tensors on the CPU in the extension's memory, which `held` is.
    """

    def __init__(self, optimizer: Optimizer, most: int | None) -> None:
        self.most = most
        self.others: dict[int, Tensor] = {}
        self.held: Any = None
        if cpu.native is not None:
            self.held = cpu.native.Before(optimizer.param_groups, most or sys.maxsize)
            others = cpu.native.not_taken(self.held)
            if not others:
                return
            self.rows = cpu.native.members(self.held)
        else:
            self.rows = [(group, p) for group in optimizer.param_groups for p in group["params"]]
            others = range(len(self.rows))
        weights = [picked(self.rows[i][1].detach(), most) for i in others]
        self.others = dict(zip(others, copies(weights), strict=True))
        if len(others) == len(self.rows):
            self.held = None

    @cached_property
    def rows(self) -> list[tuple[dict[str, Any], Tensor]]:  # pyright: ignore
        """The parameters, each after its group."""
        return cpu.native.members(self.held)

    def of(self, i: int) -> Tensor:
        if i in self.others:
            return self.others[i]
        return torch.tensor(cpu.native.weights(self.held, i), dtype=torch.float64)


def kinds() -> Any:
    """What the extension keeps from look to look of how parameters are stepped."""
    return None if cpu.native is None else cpu.native.Kinds(_kind, SETTINGS)


def measured(optimizer: Optimizer, before: Before, known: Any = None) -> Any:
    """The numbers of every parameter by what its weights were `before`, None where it has no
    gradient: a Look of the extension's where that can read them all, else a list. `known` are
    `kinds`.
    """
    found: list[Numbers | None]
    if before.held is None or not isinstance(optimizer.state, dict):
        others: Sequence[int] = range(len(before.rows))
        found = [None] * len(others)
    else:
        scale = _loss_scale(optimizer)
        look = cpu.native.Look(before.held, optimizer.state, known or kinds(), scale)
        others = cpu.native.elsewhere(look)
        if not others:
            return look
        found = cpu.native.told(look)
    _measure_others(found, others, optimizer, before)
    return found


def told(numbers: Any) -> list[Numbers | None]:
    """What was `measured`, as a list in any case."""
    return numbers if isinstance(numbers, list) else cpu.native.told(numbers)


# Which settings of a group `_kind` depends on.
SETTINGS = (
    "lr", "eps", "eps_place", "alpha", "betas", "amsgrad", "centered", "momentum",
    "bias_correction", "lr_decay",
)  # fmt: skip


def _kind(group: Mapping[str, Any], state: Mapping[str, Any]) -> Kind:
    how = divisor_of(group, state)
    if not ("betas" in group or group.get("lr_decay") or group.get("bias_correction")):
        return Kind(how, 1.0, float(group["lr"]), False)
    correction = how.correction(steps_of(state)) if how else 1.0
    return Kind(how, correction, rate_of(group, state), True)


def _measure_others(
    found: list[Any], rows: Sequence[int], optimizer: Optimizer, before: Before
) -> None:
    """Put the numbers of these rows in their places."""
    others = defaultdict(list)
    for i in rows:
        group, p = before.rows[i]
        if p.grad is not None:
            others[_kind(group, optimizer.state.get(p, {}))].append(i)
    for kind, indices in others.items():
        for i, seen in _of_kind(kind, indices, optimizer, before):
            found[i] = seen


@torch.no_grad()
def _of_kind(
    kind: Kind, indices: Sequence[int], optimizer: Optimizer, before: Before
) -> Iterator[tuple[int, Numbers]]:
    weights = {i: before.of(i) for i in indices}
    weights = {i: own for i, own in weights.items() if own.numel()}
    if not weights:
        return
    params = [before.rows[i][1] for i in weights]
    lengths = np.array([own.numel() for own in weights.values()])
    starts = np.cumsum(lengths) - lengths
    rows = [params, [p.grad for p in params]]
    buffers = kind.divisor.buffers if kind.divisor else []
    rows += [[optimizer.state[p][name] for p in params] for name in buffers]
    picks = [picked(t, before.most) for row in rows for t in row]  # type: ignore[arg-type]
    whole = joined([*weights.values(), *picks])
    was, after, gradient, *held = whole.reshape(len(rows) + 1, -1)
    scale = _loss_scale(optimizer)
    seen = Seen(
        starts, lengths, was, after, gradient if scale == 1 else gradient / scale, kind.rate
    )
    with np.errstate(all="ignore"):  # what is not finite is counted, and its figures are told so
        if kind.divisor is not None:
            root = kind.divisor.root(dict(zip(buffers, held, strict=True)), kind.correction)
            divided = kind.divisor.with_eps(root)
            seen = seen._replace(root=root, divisor=divided, least_root=kind.divisor.least_root)
        columns = {name: probe(seen) for name, probe in PROBES.items()}
        finite = math.isfinite(whole.sum())
    told = _is_all(params, lengths) if finite else [False] * len(params)
    unread = [
        _unread(p, optimizer.state.get(p, {}), buffers, all_of)
        for p, all_of in zip(params, told, strict=True)
    ]
    counts = iter(nonfinite([t for tensors in unread for t in tensors]))
    for at, (i, tensors) in enumerate(zip(weights, unread, strict=True)):
        own = {name: column and column[at] for name, column in columns.items()}
        yield i, own | {"nonfinite": sum(islice(counts, len(tensors)))}


def _is_all(params: Sequence[Tensor], lengths: Any) -> list[bool]:
    """Of which parameters all weights were picked."""
    return [n >= p.numel() * (1 + p.is_complex()) for p, n in zip(params, lengths, strict=True)]


def _unread(p: Tensor, state: Mapping[str, Any], read: Sequence[str], is_known: bool) -> list[Any]:
    """In which tensors there may be what is not finite: of the parameter, its gradient and its
    state; `is_known` tells that those are finite which the probes read, and `read` which buffers
    are among them.
    """
    known = ("step", *read) if is_known else ("step",)
    tensors = [state[name] for name in state if name not in known and _is_buffer(state[name])]
    return tensors + ([] if is_known else [t for t in (p, p.grad) if t is not None])


def _is_buffer(value: Any) -> bool:
    """Whether it is one of the tensors of a state, and not a count of steps."""
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


def _loss_scale(optimizer: Optimizer) -> float:
    """What a GradScaler multiplied the loss by, where gradients are still so."""
    scale = getattr(optimizer, "grad_scale", None)
    # Optimizers of torch that take it write the gradients back without it.
    ours = isinstance(optimizer, FusedOptimizer)
    return float(scale) if scale is not None and ours else 1.0
