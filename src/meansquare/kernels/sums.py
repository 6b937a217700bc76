"""What a step sums over gradients and updates before it writes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from meansquare.kernels import cpu, ranks, reference
from meansquare.kernels.places import Place
from meansquare.kernels.request import Request, without_modes


@dataclass
class Sums:
    """The squares of gradients whose norm is limited: all of them, or those that the kernels do not
    see; and by number of the parameter what its rule measures, where ranks had to agree on it.
    """

    squares: float = 0.0
    are_all: bool = False
    measured: dict[int, float] = field(default_factory=dict)

    def norm(self, request: Request) -> float:
        return math.sqrt(self.squares) * request.unscale

    def by_number(self, count: int) -> list[float]:
        """What was measured, for the kernels; nothing where they are to do it."""
        return [self.measured.get(n, 0.0) for n in range(count)] if self.measured else []


NO_SUMS = Sums()


def sums_here(request: Request, elsewhere: Sequence[Place]) -> Sums:
    """Of the parameters that the kernels do not step; they sum over their own."""
    rows = (request.row(place) for place in elsewhere if request.takes(place))
    return Sums(sum(reference.squares_of(r) for r in rows if r.hyper.max_grad_norm is not None))


def sums_over_ranks(
    native: Any, request: Request, places: Sequence[Place], elsewhere: Sequence[Place]
) -> Sums | None:
    """Of all parameters, over every rank that has a part of them; None where a kernel refuses one.

    Each rank takes part in the same sums, whether or not it has a gradient.
    """
    limits = [hyper.max_grad_norm is not None for hyper in request.hypers]
    measures = [hyper.measures for hyper in request.hypers]
    if not any(limits) and not any(measures):
        return NO_SUMS
    rows = {place.ordinal: request.row(place) for place in elsewhere if request.takes(place)}
    asked = [place for place in places if request.only in (None, place.ordinal)]
    limited = [place for place in asked if limits[place.group]]
    measured = [place for place in asked if measures[place.group]]
    threads = torch.get_num_threads()
    here = (native, request.groups, request.state, threads, request.gradients)
    sums = Sums(are_all=True)
    if any(limits):  # also without a parameter here
        own = without_modes(cpu.native.squares, *here) if native else []
        if isinstance(own, int):
            return None
        slow = {n: reference.squares_of(row) for n, row in rows.items()}
        whole = ranks.over_parts(dict(enumerate(own)) | slow, limited)
        sums.squares = ranks.total(whole, limited, request.groups)
    if measured:
        known = (sums.squares, request.unscale, request.row_number)
        own = without_modes(cpu.native.updates, *here, *known) if native else []
        if isinstance(own, int):
            return None
        scales = reference.Scales(request.unscale, sums.norm(request))
        slow = {
            n: reference.update_of(row, scales) for n, row in rows.items() if row.hyper.measures
        }
        sums.measured = ranks.over_parts(dict(enumerate(own)) | slow, measured)
    return sums
