"""Decay as a half-life: in steps, samples, tokens or seconds, also where steps are irregular."""

import time
from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

from meansquare.settings import above_zero, one_of, shown, told_by

UNITS = ("steps", "samples", "tokens", "seconds")


class HalfLife:
    """Sets how fast the second moment forgets, by the time that halves what it holds.

    alpha = 0.5**(amount / half_life), where `amount` is what passed since the last step

    So on a stream whose examples come at irregular times, what is `half_life` seconds old counts
    half, however many came since; and a schedule of batch sizes leaves the average one over as many
    samples. For steps, alpha is set at once; for the others, before each step by `passed`. An
    optimizer with betas keeps the first, and the second is what alpha is here.

    Args:
        optimizer: an RMSProp (torch's or ours), or one with betas
        half_life: how much of the unit halves an average, finite and above 0
        unit: `steps`, `samples`, `tokens` or `seconds`

    Raises:
        TypeError, ValueError: for an optimizer without such a decay, or an argument out of range;
            nothing is changed then

    >>> import torch, meansquare
    >>> opt = meansquare.RMSProp([torch.nn.Parameter(torch.ones(1))])
    >>> HalfLife(opt, 69, "steps").alpha
    0.990004...
    >>> per_sample = HalfLife(opt, 10_000, "samples")
    >>> per_sample.passed(32)
    >>> opt.param_groups[0]["alpha"]
    0.997784...
    """

    def __init__(self, optimizer: Optimizer, half_life: float, unit: str = "steps") -> None:
        with told_by("HalfLife"):
            self.half_life = above_zero("half_life", half_life)
            self.unit = one_of(UNITS)("unit", unit)
            if not isinstance(optimizer, Optimizer):
                raise TypeError(f"optimizer must be one of torch.optim's, got {shown(optimizer)}")
            for i, group in enumerate(optimizer.param_groups):
                if "alpha" not in group and "betas" not in group:
                    raise TypeError(
                        "optimizer must have alpha or betas, "
                        f"got {type(optimizer).__name__} without in group {i}"
                    )
        self._optimizer = optimizer
        self._last = time.monotonic()
        if self.unit == "steps":
            self.passed()

    @property
    def alpha(self) -> float:
        """The decay of the step to come, in the first group."""
        group = self._optimizer.param_groups[0]
        return group["alpha"] if "alpha" in group else group["betas"][1]

    def passed(self, amount: float | None = None) -> None:
        """Set the decay of the step to come: so much passed since the last one.

        Left out, it is 1 step, or the seconds since the last call (the first time: since this was
        made). Raises ValueError for an amount that is not above 0, or that is too small beside the
        half-life to count in double precision.
        """
        with told_by("HalfLife"):
            now = time.monotonic()
            alpha = self._decay(now - self._last if amount is None else amount, amount is None)
        self._last = now
        for group in self._optimizer.param_groups:
            if "alpha" in group:
                group["alpha"] = alpha
            else:
                group["betas"] = (group["betas"][0], alpha)

    def _decay(self, amount: Any, is_left_out: bool) -> float:
        if is_left_out and self.unit != "seconds":
            if self.unit != "steps":
                raise ValueError(f"passed needs the number of {self.unit}, got none")
            amount = 1.0
        alpha = 0.5 ** (above_zero("amount", amount) / self.half_life)
        if alpha == 1.0:
            raise ValueError(
                f"amount must be above 1e-16 of the half-life {self.half_life:g}, got {amount!r}"
            )
        return alpha

    def state_dict(self) -> dict[str, Any]:
        """The settings; the decay itself is in the optimizer's state dict."""
        return {"half_life": self.half_life, "unit": self.unit}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with other settings."""
        with told_by("HalfLife"):
            half_life = above_zero("half_life", state["half_life"])
            self.unit = one_of(UNITS)("unit", state["unit"])
        self.half_life = half_life
