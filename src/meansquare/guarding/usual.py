"""What is usual: robust running statistics of one number, or of a number of every tensor."""

import math
from collections import deque
from collections.abc import Sequence

import numpy as np

NORMAL = 1.4826  # the standard deviation of a normal distribution over its median deviation
LEAST_SPREAD = 0.12  # of a logarithm: of numbers that hardly vary, twice as large scores 6


class Window:
    """The last numbers that were good, on a log scale while all of them are positive."""

    def __init__(self, size: int, warmup: int) -> None:
        self._values: deque[float] = deque(maxlen=size)
        self._warmup = warmup

    def score(self, value: float, margin: float) -> float:
        """The robust z-score of a number, (x - median) / (1.4826 * median deviation); minus
        infinity while there are too few to tell, or while it is no record by far.

        By far: above the largest by `margin` times the distance of that one from the median. So a
        number with a heavy tail, whose z-scores are large all the time, raises no alarm.
        """
        if len(self._values) < self._warmup or value <= max(self._values):
            return -math.inf
        known = np.array(self._values)
        if known.min() > 0 and value > 0:
            known, value = np.log(known), math.log(value)
            least = LEAST_SPREAD
        else:
            least = LEAST_SPREAD * float(np.abs(known).max())
        middle, most = float(np.median(known)), float(known.max())
        if value <= most + margin * (most - middle):
            return -math.inf
        spread = NORMAL * float(np.median(np.abs(known - middle)))
        return (value - middle) / max(spread, least, 1e-300)

    def add(self, value: float) -> None:
        if math.isfinite(value):
            self._values.append(value)

    def clear(self) -> None:
        self._values.clear()

    def state(self) -> list[float]:
        return [*self._values]

    def restore(self, values: Sequence[float]) -> None:
        self.clear()
        self._values.extend(values)


class Norms:
    """The running median of the gradient norm of every tensor.

    The norms enter as they are, before they are clipped, so that a limit follows gradients that
    grow for good; zeros do not enter, so that none is held at zero for ever.
    """

    def __init__(self, size: int, warmup: int) -> None:
        self._size, self._warmup = size, warmup
        self._kept: dict[int, deque[float]] = {}

    def limits(self, norms: dict[int, float], factor: float) -> dict[int, float]:
        """By what to multiply the gradients whose norm is more than `factor` times the median."""
        scales = {}
        for number, norm in norms.items():
            known = self._kept.get(number, ())
            # Above the least of them, it may be above their median.
            if len(known) >= self._warmup and norm > factor * min(known):
                scale = factor * float(np.median(known)) / norm
                if scale < 1:
                    scales[number] = scale
        return scales

    def add(self, norms: dict[int, float]) -> None:
        for number, norm in norms.items():
            if norm > 0:
                self._kept.setdefault(number, deque(maxlen=self._size)).append(norm)

    def state(self) -> dict[int, list[float]]:
        return {number: [*known] for number, known in self._kept.items()}

    def restore(self, kept: dict[int, list[float]]) -> None:
        self._kept = {int(n): deque(known, maxlen=self._size) for n, known in kept.items()}
