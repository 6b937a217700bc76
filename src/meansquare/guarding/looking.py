"""What is seen of a step before it is made: norms of gradients, the loss, agreed between ranks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from meansquare.kernels import ranks
from meansquare.kernels.places import Place
from meansquare.parts import as_placed, part

_ALL_NORMS = torch._foreach_norm  # type: ignore[attr-defined]
_USUAL = (torch.float32, torch.strided)


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


def look(
    optimizer: Any,
    places: Sequence[Place],
    loss: float | None,
    batch: Any,
    unscale: float,
    agree: bool,
) -> Seen:
    """See the gradients of an optimizer's parameters, which are to be multiplied by `unscale`."""
    groups = optimizer.param_groups
    is_spread = ranks.spread(groups)
    if is_spread:
        for place in places:
            p = place.parameter
            placed = as_placed(p, p.grad)
            if placed is not p.grad:
                p.grad = placed  # yet to be summed over ranks; it may be written to
    active = [place for place in places if place.parameter.grad is not None]
    gradients: list[Any] = [place.parameter.grad for place in active]
    gradients = [part(g) for g in gradients] if is_spread else gradients
    norms = _norms(active, gradients, unscale)
    if is_spread:
        squares = {number: norm * norm for number, norm in norms.items()}
        whole = ranks.over_parts(squares, [p for p in places if p.parameter.requires_grad])
        norms = {number: math.sqrt(whole[number]) for number in norms}
    total = _length(norms.values())
    broken = not math.isfinite(total) or (loss is not None and not math.isfinite(loss))
    if agree and ranks.has_ranks():
        loss, total, broken = ranks.agreed(loss, total, broken)
    return Seen(batch, active, gradients, norms, loss, total, broken)


def _norms(
    places: Sequence[Place], gradients: Sequence[Tensor], unscale: float
) -> dict[int, float]:
    """The norm of each gradient, in float32 or float64; one wait for the device."""
    if not gradients:
        return {}
    if {(g.dtype, g.layout, g.device) for g in gradients} == {(*_USUAL, gradients[0].device)}:
        found = _ALL_NORMS([*gradients])
    else:
        device = gradients[0].device
        found = [_norm(g).to(device, torch.float64) for g in gradients]
    values = torch.stack([*found]).tolist()
    return {p.ordinal: unscale * value for p, value in zip(places, values, strict=True)}


def _norm(g: Tensor) -> Tensor:
    own = g.to_dense() if g.layout != torch.strided else g
    own = torch.view_as_real(own.resolve_conj()) if own.is_complex() else own
    wide = torch.promote_types(own.dtype, torch.float32)
    return torch.linalg.vector_norm(own, dtype=wide)


def _length(norms: Any) -> float:
    return math.sqrt(sum(norm * norm for norm in norms))
