"""The parameters of an optimizer, one by one, and where each of them stands."""

import itertools
from dataclasses import dataclass

from torch import Tensor

from meansquare.state import parameter_names


@dataclass(frozen=True)
class Place:
    """A parameter among all: its group, its place there, its number and its name."""

    group: int
    parameter: Tensor
    ordinal: int
    name: str


def places_of(groups: list[dict]) -> list[Place]:
    """Those of all groups, in their order."""
    ordinal = itertools.count()
    return [
        Place(i, p, next(ordinal), name)
        for i, group in enumerate(groups)
        for p, name in zip(group["params"], parameter_names(i, group), strict=True)
    ]
