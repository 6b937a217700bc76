"""The stability meter: the largest learning rate that is stable, without a step that is not."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor
from torch.optim import Optimizer

from meansquare.step_size.range_test import Begin, warm
from meansquare.watching.divisor import divisor, stability_limit
from meansquare.watching.sharpness import largest_eigenvalue

BATCHES = 4  # whose losses are averaged for the curvature


@dataclass(frozen=True)
class Stable:
    """The largest stable learning rate from one seed, the products with the Hessian and the steps
    (of learning rate 0) that it took; None where the loss curves nowhere upwards.
    """

    seed: int
    rate: float | None
    products: int
    steps: int


def stable_rate(begin: Begin, seed: int, warmup: int, products: int = 20) -> Stable:
    """limit / lambda, where lambda is the largest eigenvalue of P^-1/2 H P^-1/2.

    P is what the optimizer will divide by once its average has settled: it is warmed by `warmup`
    steps with a learning rate of 0. The limit is 2 without momentum, 2*(1+mu) with.
    Source: Cohen et al. 2022, arXiv:2207.14484.
    """
    optimizer, losses = begin(seed)
    taken = len(warm(optimizer, losses, warmup))
    rate, count = of_curvature(optimizer, losses, products)
    return Stable(seed, rate, count, taken)


def of_curvature(
    optimizer: Optimizer, losses: Iterator[Tensor], products: int
) -> tuple[float | None, int]:
    """The largest stable learning rate where an optimizer is now, on its next few batches."""
    rows = [
        (group, p) for group in optimizer.param_groups for p in group["params"] if p.requires_grad
    ]
    known = [divisor(optimizer, group, p, settled=True) for group, p in rows]
    divisors = [
        stability_limit(group) * (torch.ones_like(p) if own is None else own)
        for (group, p), own in zip(rows, known, strict=True)
    ]
    ahead = list(islice(losses, BATCHES))
    if not ahead:
        return None, 0
    mean = torch.stack(ahead).mean()
    found = largest_eigenvalue(lambda: mean, [p for _, p in rows], divisors, products)
    return (1 / found.value if found.value > 0 else None), found.products
