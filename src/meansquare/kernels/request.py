"""A step as it is asked for: of which parameters, with which gradients, state and settings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from meansquare.hyper import Hyper
from meansquare.kernels.places import Place
from meansquare.kernels.reference import Row
from meansquare.parts import as_placed, is_distributed, part, place_of

T = TypeVar("T")
_modes = torch._C._len_torch_function_stack
ALL = -1  # in place of the number of the only row to step


@dataclass
class Request:
    """Step every parameter of some groups that has a gradient, or number `only` of them.

    `gradients` are theirs by number; empty: the parameters have them. They are multiplied by
    `unscale` before anything else.
    """

    groups: list[dict]
    state: dict
    hypers: Sequence[Hyper]
    only: int | None = None
    unscale: float = 1.0
    gradients: list[Tensor | None] = field(default_factory=list)

    @property
    def row_number(self) -> int:
        return ALL if self.only is None else self.only

    def with_parts(self) -> "Request":
        """With the gradients placed over the ranks as their parameters are."""
        if self.gradients:
            return self
        params = [p for group in self.groups for p in group["params"]]
        asked = (self.only in (None, i) for i in range(len(params)))
        pairs = zip(params, asked, strict=True)
        return replace(self, gradients=[as_placed(p, p.grad) if ask else None for p, ask in pairs])

    def gradient(self, place: Place) -> Tensor | None:
        return self.gradients[place.ordinal] if self.gradients else place.parameter.grad

    def takes(self, place: Place) -> bool:
        """Whether this step is to step a parameter."""
        return self.gradient(place) is not None and self.only in (None, place.ordinal)

    def is_differentiable(self, place: Place) -> bool:
        return bool(self.groups[place.group]["differentiable"])

    def row(self, place: Place, *, as_part: bool = True) -> Row:
        """A parameter for torch operations, or this rank's part of it."""
        p, g, own = place.parameter, self.gradient(place), self.state[place.parameter]
        assert g is not None
        hyper = self.hypers[place.group]
        if not as_part or not is_distributed(p):
            return Row(p, g, own, hyper, place.ordinal)
        parts = {name: part(value) for name, value in own.items() if isinstance(value, Tensor)}
        return Row(part(p), part(g), parts, hyper, place.ordinal, place_of(p))


def with_rates(hypers: Sequence[Hyper], groups: list[dict]) -> list[Hyper]:
    """With the learning rates of now, which only the kernels read anew in each step."""
    pairs = zip(hypers, groups, strict=True)
    return [h if h.lr == group["lr"] else replace(h, lr=float(group["lr"])) for h, group in pairs]


def without_modes(call: Callable[..., T], *arguments: Any) -> T:
    """Without `torch.device(...)` and its like, which have torch run Python at each `p.grad`."""
    if not _modes():
        return call(*arguments)
    with torch._C.DisableTorchFunction():
        return call(*arguments)
