"""What is seen of a step before it is made: norms of gradients, the loss, agreed between ranks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from meansquare.kernels import ranks
from meansquare.kernels.places import Place, places_of
from meansquare.parts import as_placed, part


@dataclass(frozen=True)
class Event:
    """What a guard saw and did: after how many steps, at which batch, in which layers."""

    step: int
    batch: Any
    what: str
    action: str
    layers: tuple[str, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """As a line of a file has it, but for the step, which who writes it counts."""
        return {
            "batch": self.batch, "what": self.what, "action": self.action,
            "layers": list(self.layers), "values": dict(self.values),
        }  # fmt: skip


@dataclass
class Seen:
    """Gradients of a step, with their norms by number of the parameter, and what follows.

    `total` is the norm of all, on the rank where it is largest; `loss` the mean over ranks. `z` are
    the scores of both.
    """

    batch: Any
    places: Sequence[Place]
    gradients: Sequence[Tensor]
    norms: dict[int, float]
    loss: float | None
    total: float
    broken: bool
    z: dict[str, float] = field(default_factory=dict)

    @property
    def layers(self) -> tuple[str, ...]:
        """Those whose gradient is not finite."""
        return self.named(n for n, norm in self.norms.items() if not math.isfinite(norm))

    def named(self, numbers: Any) -> tuple[str, ...]:
        chosen = {*numbers}
        return tuple(layer(place) for place in self.places if place.ordinal in chosen)

    @property
    def largest(self) -> tuple[str, ...]:
        """The layer whose gradient is the largest."""
        return self.named([max(self.norms, key=lambda n: self.norms[n])] if self.norms else [])

    @property
    def worst(self) -> float:
        return max(self.z.values(), default=-math.inf)

    def values(self) -> dict[str, float]:
        """The figures of an event."""
        told = {"gradient_norm": self.total} | {f"z_{n}": z for n, z in self.z.items() if z > 0}
        return told if self.loss is None else {"loss": self.loss} | told

    def zero(self) -> None:
        """Write zero over what is not finite."""
        for place, own in zip(self.places, self.gradients, strict=True):
            if not math.isfinite(self.norms[place.ordinal]):
                own.nan_to_num_(0.0, 0.0, 0.0)
        self.norms = _norms(self.places, self.gradients, 1.0)
        self.total = _length(self.norms.values())


def layer(place: Place) -> str:
    """The name of a parameter, without the word before it."""
    return place.name.removeprefix("parameter ").strip("'")


def look(optimizer: Any, loss: float | None, batch: Any, unscale: float, agree: bool) -> Seen:
    """See the gradients of an optimizer, which are to be multiplied by `unscale`."""
    groups = optimizer.param_groups
    places = [place for place in places_of(groups) if place.parameter.grad is not None]
    for place in places:
        p = place.parameter
        placed = as_placed(p, p.grad)
        if placed is not p.grad:
            p.grad = placed  # yet to be summed over ranks; it may be written to
    gradients = [part(place.parameter.grad) for place in places]  # type: ignore[arg-type]
    norms = _norms(places, gradients, unscale)
    if ranks.spread(groups):
        squares = {number: norm * norm for number, norm in norms.items()}
        every = [place for place in places_of(groups) if place.parameter.requires_grad]
        whole = ranks.over_parts(squares, every)
        norms = {number: math.sqrt(whole[number]) for number in norms}
    total = _length(norms.values())
    broken = not math.isfinite(total) or (loss is not None and not math.isfinite(loss))
    if agree and ranks.has_ranks():
        loss, total, broken = ranks.agreed(loss, total, broken)
    return Seen(batch, places, gradients, norms, loss, total, broken)


def _norms(
    places: Sequence[Place], gradients: Sequence[Tensor], unscale: float
) -> dict[int, float]:
    """The norm of each gradient, in float32 or float64; one wait for each device."""
    norms: dict[int, float] = {}
    for wide in (torch.float64, torch.float32):
        of_dtype = (torch.float64, torch.complex128)
        rows = [
            (place.ordinal, g.detach())
            for place, g in zip(places, gradients, strict=True)
            if (g.dtype in of_dtype) == (wide == torch.float64)
        ]
        if rows:
            found = [_norm(g, wide) for _, g in rows]
            device = found[0].device
            values = torch.stack([one.to(device) for one in found]).tolist()
            norms |= zip((n for n, _ in rows), (unscale * value for value in values), strict=True)
    return norms


def _norm(g: Tensor, wide: torch.dtype) -> Tensor:
    own = g.to_dense() if g.layout != torch.strided else g
    own = torch.view_as_real(own.resolve_conj()) if own.is_complex() else own
    return torch.linalg.vector_norm(own, dtype=wide)


def _length(norms: Any) -> float:
    return math.sqrt(sum(norm * norm for norm in norms))
