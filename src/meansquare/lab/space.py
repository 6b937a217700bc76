"""What is searched, and where: an equal number of points in each optimizer's space."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Settings = Mapping[str, float]
Search = Literal["lr", "all"]

LOWEST_RATE, HIGHEST_RATE = 10**-3.5, 10**0.5
# The size of gradients for which lr and eps are separated: lr = rate * (1 + eps / 0.1).
USUAL_GRADIENT = 0.1
DIGITS = 6  # of a setting, so that a record can be typed in again


@dataclass(frozen=True)
class Axis:
    """A setting that is searched between two bounds on a log scale, or 1 minus it is."""

    name: str
    low: float
    high: float
    of: Literal["value", "one minus"] = "value"

    def at(self, share: float) -> float:
        """The setting at a share of the way from `low` to `high`."""
        value = self.low * (self.high / self.low) ** share
        return _rounded(value if self.of == "value" else 1.0 - value)

    @property
    def facts(self) -> dict[str, Any]:
        return asdict(self)


def points(axes: Sequence[Axis], rates: Sequence[float], first: int = 0) -> tuple[Settings, ...]:
    """A point for each rate; the other settings run through Halton's sequence from `first` on.

    With evenly spaced rates that is Hammersley's point set. A rate is the learning rate of a
    weight whose momentum is 0 and eps small: lr = rate * (1 - momentum) * (1 + eps / 0.1), so that
    what is searched is the size of a step (Choi et al. 2019 search lr / eps for the same reason).
    """
    shares = _halton(len(axes), first, len(rates))
    return tuple(
        _point(rate, {axis.name: axis.at(share) for axis, share in zip(axes, row, strict=True)})
        for rate, row in zip(rates, shares, strict=True)
    )


def even_rates(count: int) -> tuple[float, ...]:
    """`count` rates, evenly spaced in log10 over the range that all optimizers share."""
    if count == 1:
        return (_rounded(math.sqrt(LOWEST_RATE * HIGHEST_RATE)),)
    axis = Axis("rate", LOWEST_RATE, HIGHEST_RATE)
    return tuple(axis.at(index / (count - 1)) for index in range(count))


def beyond(rates: Sequence[float], edge: Literal["lowest", "highest"], count: int) -> list[float]:
    """`count` more rates past an edge of sorted rates, with the same spacing."""
    spacing = rates[1] / rates[0] if len(rates) > 1 else 10.0
    end, ratio = (rates[0], 1 / spacing) if edge == "lowest" else (rates[-1], spacing)
    return [_rounded(end * ratio**number) for number in range(1, count + 1)]


def _point(rate: float, others: dict[str, float]) -> dict[str, float]:
    # Momentum's buffer grows to g / (1 - momentum), where Adam's is an average.
    scale = (1.0 + others.get("eps", 0.0) / USUAL_GRADIENT) * (1.0 - others.get("momentum", 0.0))
    return {"lr": _rounded(rate * scale), **others}


def _halton(dimensions: int, first: int, count: int) -> list[list[float]]:
    if not dimensions:
        return [[]] * count
    from scipy.stats import qmc

    sequence = qmc.Halton(dimensions, scramble=True, rng=0)
    sequence.fast_forward(first)
    return sequence.random(count).tolist()


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
