"""A step as operators of torch's own, which torch.compile takes into its graphs.

`meansquare::settings` reads the settings of an optimizer when the graph runs, as numbers;
`meansquare::step` takes these and tensors alone. So nothing that a schedule changes is part of a
graph, and none is compiled anew for it.
"""

import functools
import math
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from meansquare.hyper import MOST_NUMBERS, Hyper, Precision, Rule
from meansquare.kernels.plan import Plan
from meansquare.kernels.request import Request, with_rates
from meansquare.settings import number
from meansquare.state import lacking

_WORD = 1 << 32
_FIRST = 8  # numbers of every rule; its own follow, at either precision
OPTIMIZERS: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
_rules: list[Rule] = []


@dataclass(frozen=True)
class _Written(Hyper):
    """Settings that are numbers already."""

    lr: float = 0.0
    rule: Rule = field(default=None)  # type: ignore[assignment]
    max_update: float | None = None  # type: ignore[assignment]
    norm_eps: float = 0.0  # type: ignore[assignment]
    written: Mapping[Precision, Mapping[str, float]] = field(default_factory=dict)

    def own_numbers(self, precision: Precision) -> Mapping[str, float]:  # type: ignore[override]
        return self.written[precision]


def write(hypers: Sequence[Hyper]) -> Tensor:
    """The settings of groups as a float64 tensor, a row for each."""
    rows = []
    for hyper in hypers:
        if hyper.rule not in _rules:
            _rules.append(hyper.rule)
        limits = (_or_infinite(hyper.max_grad_norm), _or_infinite(hyper.max_update))
        seed = divmod(hyper.seed, _WORD)
        row = [_rules.index(hyper.rule), hyper.lr, *seed, *limits, hyper.norm_eps, 0.0]
        for precision in ("float32", "float64"):
            numbers = list(hyper.numbers(precision).values())
            row += numbers + [0.0] * (MOST_NUMBERS - len(numbers))
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64, device="cpu")


def read(settings: Tensor) -> list[Hyper]:
    """What `write` wrote."""
    return [_read(tuple(row)) for row in settings.tolist()]


@functools.lru_cache(maxsize=256)
def _read(row: tuple[float, ...]) -> Hyper:
    number, lr, high, low, norm, update, norm_eps, _ = row[:_FIRST]
    rule = _rules[int(number)]
    single, double = row[_FIRST : _FIRST + MOST_NUMBERS], row[_FIRST + MOST_NUMBERS :]
    names = rule.numbers
    return _Written(
        lr=lr,
        seed=int(high) * _WORD + int(low),
        max_grad_norm=_or_none(norm),
        max_update=_or_none(update),
        norm_eps=norm_eps,
        rule=rule,
        written={
            "float32": dict(zip(names, single, strict=False)),
            "float64": dict(zip(names, double, strict=False)),
        },
    )


def _or_infinite(x: float | None) -> float:
    return math.inf if x is None else x


def _or_none(x: float) -> float | None:
    return None if x == math.inf else x


@torch.library.custom_op(
    "meansquare::settings", mutates_args=(), tags=(torch.Tag.nondeterministic_seeded,)
)
def settings(optimizer: int, groups: int, rates: list[Tensor]) -> Tensor:
    """The settings that an optimizer's groups have now, for which its state has every buffer.

    `rates` are its learning rates that are tensors, which a graph may have changed.
    """
    owner = OPTIMIZERS[optimizer]
    traced = owner._traced
    if not traced.is_of(owner):
        traced.fill(owner)
        raise RuntimeError(
            f"{type(owner).__name__}: parameters, state or how a group runs were changed by hand "
            "under a compiled step, which did nothing; step again"
        )
    owner._opt_called = True  # as a step tells torch's schedulers
    hypers = owner._checked_groups()
    of_now: dict[int, Any] = {id(lr): value for lr, value in zip(traced.rates, rates, strict=True)}
    every = (group["lr"] for group in owner.param_groups)
    values = [number("lr", of_now.get(id(lr), lr)) for lr in every]
    if traced.hypers is not hypers or traced.values != values:
        now = with_rates(hypers, [{"lr": value} for value in values])
        for group, hyper in zip(owner.param_groups, now, strict=True):
            _complete(owner.state, group["params"], hyper)
        traced.hypers, traced.values, traced.written = hypers, values, write(now)
    return traced.written.clone()


def _complete(state: Mapping[Tensor, dict[str, Any]], params: list[Tensor], hyper: Hyper) -> None:
    """Give the parameters that have a state the buffers that new settings ask for."""
    buffers = hyper.rule.buffers
    for p in params:
        own = state.get(p)
        if own and any(name not in own for name in buffers):
            for name, value in lacking(p, own, hyper).items():
                if name in own:  # the graph that runs has it
                    own[name].copy_(value)
                else:
                    own[name] = value


@settings.register_fake
def _(optimizer: int, groups: int, rates: list[Tensor]) -> Tensor:
    return torch.empty(groups, _FIRST + 2 * MOST_NUMBERS, dtype=torch.float64, device="cpu")


@torch.library.custom_op("meansquare::step", mutates_args=("params", "state"))
def step(
    params: list[Tensor],
    gradients: list[Tensor],
    state: list[Tensor],
    names: str,
    ordinals: list[int],
    sizes: list[int],
    settings: Tensor,
    optimizer: int,
) -> None:
    """Step parameters by their gradients.

    `state` holds, for one parameter after the other, its count of steps and its buffers; `names`
    are theirs with commas between them, and each "step" begins another parameter's. `ordinals` are
    the parameters' numbers among all that the groups, of these `sizes`, have. `optimizer` (0: none)
    keeps the table of tensors, and has the buffers that its settings came to need since the graph
    was made.
    """
    owner = OPTIMIZERS.get(optimizer)
    everyone: list[Any] = [_ABSENT] * sum(sizes)
    every_gradient: list[Tensor | None] = [None] * sum(sizes)
    for ordinal, p, g in zip(ordinals, params, gradients, strict=True):
        everyone[ordinal], every_gradient[ordinal] = p, g
    late = [{} if owner is None else owner._traced.states[ordinal] for ordinal in ordinals]
    own = {p: dict(buffers) for p, buffers in zip(params, late, strict=True)}
    row = -1
    for name, value in zip(names.split(","), state, strict=True):
        row += name == "step"
        own[params[row]][name] = value
    hypers, groups, begin = read(settings), [], 0
    for size, hyper in zip(sizes, hypers, strict=True):
        group = {"params": everyone[begin : begin + size], "lr": hyper.lr}
        groups.append(group | {"differentiable": False, "rank_local": False})
        begin += size
    plan = Plan(_Written) if owner is None else owner._traced.plan
    with torch.no_grad():
        plan.step(Request(groups, own, hypers, gradients=every_gradient))


@step.register_fake
def _(*_: Any) -> None:
    return None


_ABSENT = torch.empty(0)
