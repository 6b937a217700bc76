"""Surfaces over two weights: where an optimizer goes can be drawn, and where it ends is exact."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean

import torch
from scipy.optimize import minimize
from torch import Tensor

from meansquare.lab.landscapes import LANDSCAPES, Landscape
from meansquare.lab.tasks import Facts, Score

POINTS = 8  # that run at once, so that a setting has to hold from more than one start
STEPS, PERIODS = 100, 20  # steps of a period, and the periods that jumps and targets are made for
EVERY = 10  # steps between the points of a drawn way
LEAST = 1e-12  # a height below it is told as it: nobody needs a lower one
# Weight of the mean over periods in what a setting is chosen by. Several rates can reach LEAST, and
# without it the smallest of them is chosen, the slowest: Momentum's on the ravine, of 13 rates,
# takes 300 steps to the target instead of 100.
OF_THE_WAY = 1e-3
MOVING = "moving-quadratic"
JUMPS = (5, 10, 15)  # periods after which the optimum of the moving one is elsewhere
REACH = 2.0  # standard deviation of where it jumps to, in x and in y
NOISE = 1.0  # standard deviation of the noise in each component of its gradient
TARGETS = {"rosenbrock": -3.0, "beale": -3.0, "saddle": -3.0, "ravine": -3.0, MOVING: 0.3}


def load(name: str) -> Surface:
    """One of LANDSCAPES as a task."""
    landscape, moves = LANDSCAPES[name], name == MOVING
    facts = Facts(
        name=name,
        title=landscape.title,
        kind="surface",
        model=f"{POINTS} points of two weights each, {landscape.formula}",
        parameters=2 * POINTS,
        batch_size=1,
        sizes={"steps of a period": STEPS},
        metric="height over all steps" if moves else "log10 height above the minimum",
        unit="-" if moves else "decades",
        higher_is_better=False,
        baselines=_baselines(landscape, moves),
        target=TARGETS[name],
        notes=_notes(landscape, moves),
        epoch=f"{STEPS} steps",
        events={f"jump {number}": float(at) for number, at in enumerate(JUMPS, 1)} if moves else {},
        # On a way down a valley a height can grow by far; what is not finite has diverged.
        blow_up=None,
    )
    return Surface(facts, landscape)


@dataclass(frozen=True)
class Surface:
    """A landscape to be trained on."""

    facts: Facts
    landscape: Landscape

    def start(self, seed: int) -> Way:
        return Way(self.landscape, seed, self.facts.name == MOVING)


class Way:
    """One run: points that are led over the surface, in float64, each on its own.

    They are judged by where they are, in decades, since runs end many apart, and of equal runs that
    which was there earlier is chosen; on the moving surface by the mean height of all steps so far,
    its curve is that of each period. The way of the first one is drawn.
    """

    def __init__(self, landscape: Landscape, seed: int, moves: bool) -> None:
        self._value, self._moves = landscape.value, moves
        self._draws = torch.Generator().manual_seed(seed)
        first, spread = (
            torch.tensor(pair, dtype=torch.float64)[:, None]
            for pair in (landscape.start, landscape.spread)
        )
        self.points = (first + spread * self._normal(POINTS)).requires_grad_()
        self._optimum = torch.zeros(2, 1, dtype=torch.float64)
        self._period = 0
        self._means: list[float] = []
        self._decades: list[float] = []
        self._ways: list[tuple[float, float]] = [self._place()]

    def parameters(self) -> list[Tensor]:
        return [self.points]

    def losses(self) -> Iterator[Tensor]:
        if self._moves and self._period in JUMPS:
            self._optimum = REACH * self._normal(1)
        self._period += 1
        heights = []
        for step in range(1, STEPS + 1):
            height = self._heights().sum()
            heights.append(height.item() / POINTS)
            # Their sum, so that the gradient of each is that of its own height.
            yield height + self._noise() if self._moves else height
            if step % EVERY == 0:
                self._ways.append(self._place())
        self._means.append(fmean(heights))

    def validate(self) -> Score:
        if self._moves:
            return Score(self.test(), self._means[-1])
        self._decades.append(self.test())
        return Score(self._decades[-1] + OF_THE_WAY * fmean(self._decades), self._decades[-1])

    def test(self) -> float:
        return fmean(self._means) if self._moves else fmean(map(_decades, self._heights().tolist()))

    def series(self) -> Mapping[str, list[float]]:
        x, y = zip(*self._ways, strict=True)
        return {"x": list(x), "y": list(y)}

    def _heights(self) -> Tensor:
        x, y = self.points - self._optimum
        return self._value(x, y)

    def _noise(self) -> Tensor:
        """A term that is 0 where it is computed and has the noise for its gradient."""
        return ((self.points - self.points.detach()) * (NOISE * self._normal(POINTS))).sum()

    def _normal(self, count: int) -> Tensor:
        return torch.randn(2, count, generator=self._draws, dtype=torch.float64)

    def _place(self) -> tuple[float, float]:
        x, y = self.points[:, 0].tolist()
        return x, y


def _notes(landscape: Landscape, moves: bool) -> str:
    begins = (
        f"Each point begins at {landscape.start}, moved by normal noise of deviations "
        f"{landscape.spread} that a seed draws ({landscape.source}): settings are chosen from some "
        "such starts and judged from others"
    )
    if not moves:
        return (
            f"{begins}. The gradient is exact. A height below {LEAST:g} is told as {LEAST:g}; of "
            "settings that end equally low, that which was low earlier is chosen."
        )
    return (
        f"{begins}. After periods {', '.join(map(str, JUMPS))} the optimum jumps to a place of "
        f"deviation {REACH} around 0, and each component of a gradient has noise of deviation "
        f"{NOISE}. The picture's ground is that of the first optimum."
    )


def _baselines(landscape: Landscape, moves: bool) -> dict[str, float]:
    x, y = landscape.start
    if moves:
        # Before the first jump the bowl's height there, then its mean over where it jumps to.
        jumped = landscape.value(x, y) + landscape.value(REACH, 0.0) + landscape.value(0.0, REACH)
        share = JUMPS[0] / PERIODS
        return {"staying at the start": share * landscape.value(x, y) + (1.0 - share) * jumped}
    found = minimize(lambda p: landscape.value(*p), (x, y), method="L-BFGS-B")
    return {
        "staying at the start": _decades(landscape.value(x, y)),
        "L-BFGS (SciPy)": _decades(float(found.fun)),
    }


def _decades(height: float) -> float:
    return math.log10(max(height, LEAST)) if not math.isnan(height) else math.nan
