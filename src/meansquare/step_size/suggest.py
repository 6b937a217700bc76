"""`suggest_lr`: a learning rate from short trainings of a copy, with an interval and its price."""

import copy
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from meansquare.guarding.chance import chance, set_chance
from meansquare.settings import above_zero, count, one_of, shown, told_by
from meansquare.step_size.range_test import Begin, Curve, range_test
from meansquare.step_size.stability import Stable, stable_rate

Method = Literal["range", "stability", "both"]
SHARE_OF_STABLE = 0.25  # of the largest stable rate: that one overshoots for ever
LOOKED_AT = 10_000  # objects of a loader, in search of its random generators


@dataclass(frozen=True)
class Suggestion:
    """A learning rate, the interval of the seeds around it, and what it took.

    `lr` is None where no seed suggests one; `stable` is the largest stable learning rate (the
    least of the seeds), None where it was not asked for or the loss curves nowhere upwards.
    """

    lr: float | None
    low: float | None
    high: float | None
    stable: float | None
    curves: tuple[Curve, ...]
    steps: int
    seconds: float

    def __str__(self) -> str:
        cost = f"{self.steps} steps, {self.seconds:.1f} s"
        stable = "" if self.stable is None else f"; stable up to {self.stable:.2g}"
        if self.lr is None and not self.curves:
            return f"no largest stable rate: the loss curves nowhere upwards ({cost})"
        if self.lr is None:
            return f"no learning rate lowers the loss by more than its noise{stable} ({cost})"
        silent = sum(curve.rate is None for curve in self.curves)
        doubt = f"; {silent} of {len(self.curves)} seeds saw no fall" if silent else ""
        assert self.low is not None
        assert self.high is not None
        if self.high > 10 * self.low:
            doubt += "; the seeds disagree"
        return (
            f"learning rate {self.lr:.2g}, by the seeds {self.low:.2g} to {self.high:.2g}"
            f"{stable}{doubt} ({cost})"
        )


def suggest_lr(
    model: nn.Module,
    optimizer: Optimizer,
    loss: Callable[[nn.Module, Any], Tensor],
    batches: Iterable[Any],
    *,
    method: Method = "range",
    seeds: int = 3,
    steps: int = 140,
    warmup: int = 20,
    low: float = 1e-6,
    high: float = 10.0,
) -> Suggestion:
    """Suggest a learning rate for an optimizer, as it is now, on a model, as it is now.

    By the range test the learning rate grows from `low` to `high` over `steps` steps; the rate at
    which the running mean of the loss has made half of its fall is what a seed suggests, and the
    geometric mean of the seeds is the suggestion. By the stability meter it is a quarter of the
    largest learning rate that is stable in the metric of the optimizer; no step diverges there.

    All is done on a copy of model and optimizer, made together; all groups get the same rate. They,
    their gradients and hooks stay untouched, every random state (torch, Python, NumPy, generators
    that `batches` holds, in its samplers and data too) is set back, and `batches` is begun anew, so
    that an iterator over it that is under way goes on where it was.

    Args:
        model: the network; what it computes is asked for by `loss` alone
        optimizer: its optimizer, one of torch's or ours
        loss: `loss(model, batch)`, a scalar; it is to use the model that it is given
        batches: what can be iterated again and again, such as a DataLoader
        method: `range`, `stability`, or `both` (the smaller of the two)
        seeds: how many times, each with other random numbers
        steps, low, high: of the range test
        warmup: steps with a learning rate of 0 before, which fill the second moment

    Raises TypeError and ValueError for arguments of another kind or out of range.

    >>> model = nn.Linear(2, 1, bias=False)
    >>> _ = nn.init.ones_(model.weight)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> batches = [torch.tensor([[3.0, 0.0], [0.0, 1.0]])]
    >>> found = suggest_lr(model, optimizer, lambda m, x: m(x).square().mean(), batches,
    ...                    method="stability", seeds=1)
    >>> print(f"{found.stable:.4f}")  # the Hessian's largest eigenvalue is 9
    0.2222
    """
    with told_by("suggest_lr"):
        _check(model, optimizer, batches)
        method = cast(Method, one_of(get_args(Method))("method", method))
        _check_counts(seeds, steps, warmup)
        low, high = _checked_rates(low, high)
    untouched, own_batches = _originals(model, optimizer), _apart(batches)

    def begin(seed: int) -> tuple[Optimizer, Iterator[Tensor]]:
        torch.manual_seed(seed)
        own_model, own = copy.deepcopy((model, optimizer))
        return own, _losses(own_model, loss, own_batches, untouched)

    with _chance_kept(batches), _buffers_kept(model):
        return suggestion(begin, method, range(1, seeds + 1), steps, warmup, low, high)


def suggestion(
    begin: Begin,
    method: Method,
    seeds: Iterable[int],
    steps: int = 140,
    warmup: int = 20,
    low: float = 1e-6,
    high: float = 10.0,
) -> Suggestion:
    """The suggestion for a training that `begin` makes anew from each seed."""
    began = time.perf_counter()
    curves, meters = [], []
    for seed in seeds:
        if method != "stability":
            curves.append(range_test(begin, seed, low, high, steps, warmup))
        if method != "range":
            meters.append(stable_rate(begin, seed, warmup))
    rates = [curve.rate for curve in curves if curve.rate is not None]
    stable = min((own.rate for own in meters if own.rate is not None), default=None)
    if method == "stability":
        rates = [SHARE_OF_STABLE * own.rate for own in meters if own.rate is not None]
    found: float | None = None
    bottom, top = min(rates, default=None), max(rates, default=None)
    if rates and bottom is not None and top is not None:
        found = min(max(math.exp(sum(map(math.log, rates)) / len(rates)), bottom), top)
        if method == "both" and stable is not None:
            found = min(found, SHARE_OF_STABLE * stable)
            bottom = min(bottom, found)
    return Suggestion(
        found,
        bottom,
        top,
        stable,
        tuple(curves),
        _steps(curves, meters),
        time.perf_counter() - began,
    )


def _steps(curves: list[Curve], meters: list[Stable]) -> int:
    """Steps of training, and what costs about as much: products with a Hessian count as two."""
    return sum(c.steps for c in curves) + sum(own.steps + 2 * own.products for own in meters)


def _check(model: Any, optimizer: Any, batches: Any) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {shown(model)}")
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {shown(optimizer)}")
    own = {p for group in optimizer.param_groups for p in group["params"]}
    if not own & {*model.parameters()}:
        raise ValueError("optimizer must step parameters of the model, got none of them")
    if not isinstance(batches, Iterable):
        raise TypeError(f"batches must be iterable, got {shown(batches)}")
    if isinstance(batches, Iterator):
        raise TypeError(
            f"batches must be what can be begun again, such as a DataLoader, got {shown(batches)}"
        )


def _check_counts(seeds: Any, steps: Any, warmup: Any) -> None:
    for name, value in (("seeds", seeds), ("steps", steps), ("warmup", warmup)):
        count(name, value)
    if steps < 2:
        raise ValueError(f"steps must be 2 or more, got {steps}")


def _checked_rates(low: Any, high: Any) -> tuple[float, float]:
    low, high = above_zero("low", low), above_zero("high", high)
    if low >= high:
        raise ValueError(f"low must be below high, got low={low:g} and high={high:g}")
    return low, high


def _originals(model: nn.Module, optimizer: Optimizer) -> set[Tensor]:
    return {*model.parameters(), *(p for group in optimizer.param_groups for p in group["params"])}


def _apart(batches: Any) -> Any:
    """The same batches; a loader whose workers persist has only one iterator, the user's."""
    if not getattr(batches, "persistent_workers", False):
        return batches
    own = copy.copy(batches)
    own._iterator = None
    return own


def _losses(
    model: nn.Module, loss: Callable[..., Tensor], batches: Iterable, untouched: set[Tensor]
) -> Iterator[Tensor]:
    """Losses of one batch after the other, from the beginning again where they end."""
    checked = False
    while True:
        empty = True
        for batch in batches:
            value = loss(model, batch)
            if not checked:
                with told_by("suggest_lr"):
                    _check_loss(value, untouched)
            empty, checked = False, True
            yield value
        if empty:
            raise ValueError("suggest_lr: batches must hold a batch, got none")


def _check_loss(value: Any, untouched: set[Tensor]) -> None:
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
        raise TypeError(f"loss must return one number with a gradient, got {shown(value)}")
    seen, left = set(), [value.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        left += [before for before, _ in node.next_functions]
        if getattr(node, "variable", None) in untouched:
            raise ValueError(
                "loss must use the model that it is given, a copy, got one that uses parameters of "
                "the original; write loss(model, batch) in terms of its arguments"
            )


@contextmanager
def _buffers_kept(model: nn.Module) -> Iterator[None]:
    """A loss that uses the original by mistake moves its running statistics before it is told."""
    held = [own for own in model.buffers() if not (is_lazy(own) or own.is_inference())]
    kept = [own.clone() for own in held]
    try:
        yield
    finally:
        with torch.no_grad():
            for own, values in zip(held, kept, strict=True):
                if not torch.equal(own, values):
                    own.copy_(values)


@contextmanager
def _chance_kept(batches: Any) -> Iterator[None]:
    """Every random state is afterwards what it was, those that a loader holds too."""
    kept, settings_back = chance(), _generators(batches)
    try:
        yield
    finally:
        set_chance(kept)
        for set_back in settings_back:
            set_back()


def _generators(batches: Any) -> list[Callable[[], object]]:
    """What sets back each random generator that attributes and containers lead to."""
    found, seen, left = [], set(), deque([batches])
    while left and len(seen) < LOOKED_AT:
        place = left.popleft()
        if id(place) in seen:
            continue
        seen.add(id(place))
        if isinstance(place, torch.Generator | np.random.RandomState):
            found.append(partial(place.set_state, place.get_state()))
        elif isinstance(place, np.random.Generator):
            found.append(partial(setattr, place.bit_generator, "state", place.bit_generator.state))
        elif isinstance(place, random.Random) and not isinstance(place, random.SystemRandom):
            found.append(partial(place.setstate, place.getstate()))
        elif isinstance(place, dict):
            left.extend([*place.values()])
        elif isinstance(place, list | tuple | set):
            left.extend(place)
        elif not isinstance(place, Tensor | type) and hasattr(place, "__dict__"):
            left.extend([*vars(place).values()])
    return found
