"""What every framework is given: parameters, gradients and learning rates, exact in float32.

Nothing here needs more than NumPy: it runs in the environment of each framework.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

Arrays = tuple[np.ndarray, ...]
KEPT = (1, 30, 300)  # steps whose parameters go into golden files
STARTS = (
    np.array([[0.5, -1.25], [2.0, -0.75]]),
    np.array([1.0, -0.5, 3.0]),
)
# Sizes of the gradients; of the fifth two in three are zero, of the last all.
_SIZES = (2.0**-13, 2.0**-7, 1.0, 32.0, 0.125, 1.0, 0.0)
_MEANS = (0.0, 0.0, 0.25, 0.0, 0.0, 1.0, 0.0)


def _uniform(t: int, i: int, k: int) -> float:
    """One of the numbers 0, 1/4096, ... below 1, the same on every machine."""
    x = (t * 0x9E3779B1 + i * 0x85EBCA6B + k * 0xC2B2AE35 + 1) & 0xFFFFFFFF
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    return ((x ^ (x >> 16)) & 0xFFF) / 4096


def _element(t: int, i: int) -> float:
    if i == 4 and t % 3:
        return 0.0
    return _SIZES[i] * (_MEANS[i] + sum(_uniform(t, i, k) for k in range(3)) - 1.5)


def _shaped(elements: list[float]) -> Arrays:
    flat = np.array(elements)
    return flat[:4].reshape(2, 2), flat[4:]


def varied(t: int) -> Arrays:
    """Gradients of five decades, of either sign, some of them zero."""
    return _shaped([_element(t, i) for i in range(len(_SIZES))])


def falling_and_rising(t: int) -> float:
    return 1.0 if t <= 100 else 0.125 if t <= 200 else (t - 200) / 128


def near_constant(t: int) -> Arrays:
    """Gradients that hardly vary: 0.25 to 1, and up to 2**-12 of it besides."""
    return _shaped(
        [0.125 * (i + 2) * (1 + 2.0**-12 * _uniform(t, i, 0)) for i in range(len(_SIZES))]
    )


@dataclass(frozen=True)
class Problem:
    """Gradients for each step, and what the learning rate is multiplied by; t is 1 at the first."""

    name: str
    steps: int
    gradients: Callable[[int], Arrays]
    rate: Callable[[int], float]

    def starts(self, dtype: str) -> list[np.ndarray]:
        return [p.astype(dtype) for p in STARTS]

    def each(self, dtype: str) -> Iterator[tuple[int, float, list[np.ndarray]]]:
        """Number, factor on the learning rate and gradients of each step."""
        for t in range(1, self.steps + 1):
            yield t, self.rate(t), [g.astype(dtype) for g in self.gradients(t)]


VARIED = Problem("varied", 300, varied, falling_and_rising)
NEAR_CONSTANT = Problem("near-constant", 3000, near_constant, lambda t: 1.0)


def flat(parameters) -> np.ndarray:
    """All parameters as one row, whatever array they are."""
    return np.concatenate([np.asarray(p, dtype=np.float64).reshape(-1) for p in parameters])
