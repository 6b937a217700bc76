"""What a step did to tensors, as pure functions of arrays: weights, gradients, second moments.

csrc/probes.h does the same for plain tensors on the CPU, in less time than a call of NumPy takes.
The arrays hold several tensors of one group, one behind the other; a probe returns a number (or
quantiles) for each. All are of float64.
"""

from typing import Any, NamedTuple

import numpy as np

Array = Any  # one-dimensional NumPy arrays
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
STALE = 1000.0  # times smaller than its root, a gradient says that the second moment is old
RANKED = 256  # weights of a tensor that are put in order, evenly spread
LEAST = 1e-30  # that the root of a second moment counts as, where eps is 0


class Seen(NamedTuple):
    """Tensors at a step; they begin at `starts`. `before` are their weights then.

    `root` is that of the second moment as the step had it, `divisor` what gradients were divided
    by; both are None for an optimizer without a second moment. eps is the larger part of the
    divisor where the root is below `least_root`.
    """

    starts: Array
    lengths: Array
    before: Array
    after: Array
    gradient: Array
    rate: float
    root: Array | None = None
    divisor: Array | None = None
    least_root: float = 0.0


def rate_quantiles(seen: Seen) -> list[list[float]] | None:
    """Quantiles of the effective learning rate lr/(sqrt(v)+eps), by the nearest rank."""
    if seen.divisor is None:
        return None
    ends = seen.starts + seen.lengths
    return [
        _quantiles(seen.rate, seen.divisor[first:last][:: -(-(last - first) // RANKED)])
        for first, last in zip(seen.starts.tolist(), ends.tolist(), strict=True)
    ]


def _quantiles(rate: float, divisor: Array) -> list[float]:
    last = len(divisor) - 1
    ranks = [round((1 - q) * last) for q in QUANTILES]  # a large divisor is a small rate
    return (rate / np.sort(divisor)[ranks]).tolist()


def eps_rules(seen: Seen) -> list[float] | None:
    """The share of weights whose eps is more than sqrt(v): RMSProp is gradient descent there."""
    return None if seen.root is None else _share(seen, seen.root < seen.least_root)


def gradient_size(seen: Seen) -> list[float]:
    """The root of the mean square of the gradient."""
    return _rms(seen, seen.gradient)


def update_size(seen: Seen) -> list[float]:
    """The root of the mean square of what the step changed."""
    return _rms(seen, seen.after - seen.before)


def relative_update(seen: Seen) -> list[float | None]:
    """The size of the update over that of the weights; None where these are all zero."""
    sizes = zip(update_size(seen), _rms(seen, seen.before), strict=True)
    return [update / weights if weights else None for update, weights in sizes]


def precursor(seen: Seen) -> list[float] | None:
    """sqrt(mean(g^2/v)), with the v that has this g in it, held above eps^2.

    It is near 1 while v fits the gradients, and rises when they outgrow v, some steps before the
    loss does (arXiv:2506.04805).
    """
    if seen.root is None:
        return None
    return _rms(seen, seen.gradient / np.maximum(seen.root, max(seen.least_root, LEAST)))


def dead(seen: Seen) -> list[float]:
    """The share of weights that have no gradient and, by v, never had one."""
    silent = seen.gradient == 0
    return _share(seen, silent if seen.root is None else silent & (seen.root == 0))


def stale(seen: Seen) -> list[float] | None:
    """The share of weights whose v remembers gradients a thousand times as large as this one."""
    return None if seen.root is None else _share(seen, np.abs(seen.gradient) * STALE < seen.root)


def _rms(seen: Seen, values: Array) -> list[float]:
    return np.sqrt(_means(seen, values * values)).tolist()


def _share(seen: Seen, holds: Array) -> list[float]:
    return _means(seen, holds.astype(np.float64)).tolist()


def _means(seen: Seen, values: Array) -> Array:
    return np.add.reduceat(values, seen.starts) / seen.lengths


PROBES = {
    "rate": rate_quantiles,
    "eps_rules": eps_rules,
    "gradient": gradient_size,
    "update": update_size,
    "relative_update": relative_update,
    "precursor": precursor,
    "dead": dead,
    "stale": stale,
}
