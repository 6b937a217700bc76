"""A learning rate that finds itself: Prodigy, whose estimate RMSProp can take as it is."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from meansquare.kernels.ranks import spread
from meansquare.optimizers import RMSProp
from meansquare.settings import above_zero, at_least_zero, between, told_by

_ABOVE_ONE = between(1.0, math.inf, "above 1", without=1.0)
NUMBERS = ("d", "largest", "numerator")


class Prodigy:
    """Sets the learning rate of an RMSProp before each step: attach it and leave lr alone.

    d = max(d, d_coef * sum(d*lr*<g, p0 - p>) / ||s||_1);  the step's learning rate is lr*d

    where s is the running sum of d*lr*g, both sums decaying by sqrt(alpha). d estimates how far the
    weights have to go; it only grows. What `lr` of a group is between steps stays a factor on it,
    which schedulers may change (1 when attached). Gradients have to be there before `step()`: it is
    not to be given a closure.

    Args:
        optimizer: a meansquare RMSProp without momentum, not centered, at its first step
        lr: the factor, in every group
        d0: the first estimate, far below any useful one
        d_coef: factor on the estimate; the one number to change where it is too bold
        growth: by how much d may grow in a step

    Costs two tensors of every parameter's size (p0 and s), some passes over them in torch
    operations, and a wait for the device, in each step.

    Raises TypeError and ValueError for another optimizer or arguments out of range; at a step,
    RuntimeError for a closure and for parameters spread over ranks.
    Source: Mishchenko & Defazio 2023, arXiv:2306.06101, algorithm 4 with beta1 = 0; as prodigyopt
    1.1.2 computes it, whose v is d^2 times ours.

    >>> p = torch.nn.Parameter(torch.full((3,), 5.0))
    >>> optimizer = RMSProp([p])
    >>> prodigy = Prodigy(optimizer)
    >>> for _ in range(200):
    ...     optimizer.zero_grad()
    ...     p.square().sum().backward()
    ...     optimizer.step()
    >>> bool(p.abs().max() < 1), optimizer.param_groups[0]["lr"]
    (True, 1.0)
    """

    def __init__(
        self,
        optimizer: RMSProp,
        lr: float = 1.0,
        d0: float = 1e-6,
        d_coef: float = 1.0,
        growth: float = math.inf,
    ) -> None:
        with told_by("Prodigy"):
            if not isinstance(optimizer, RMSProp):
                raise TypeError(f"optimizer must be an RMSProp, got {type(optimizer).__name__}")
            lr = at_least_zero("lr", lr)
            self.d0, self.d_coef = above_zero("d0", d0), above_zero("d_coef", d_coef)
            self.growth = math.inf if growth == math.inf else _ABOVE_ONE("growth", growth)
            for i, group in enumerate(optimizer.param_groups):
                if group["momentum"] or group["centered"]:
                    raise ValueError(f"momentum and centered must be off, got one in group {i}")
        self._optimizer = optimizer
        self.d = self.largest = self.d0
        self.numerator = 0.0
        self._first: dict[Tensor, Tensor] = {}
        self._sums: dict[Tensor, Tensor] = {}
        self._shrink = 1.0  # by what v is yet to be multiplied, since d has grown
        self._factors: list[Any] = []
        for group in optimizer.param_groups:
            group["lr"] = lr
        self._before = optimizer.register_step_pre_hook(self._set)
        self._after = optimizer.register_step_post_hook(self._set_back)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the last step, in the first group."""
        return float(self._optimizer.param_groups[0]["lr"]) * self.d

    def remove(self) -> None:
        """End it; the present learning rate is left in the groups."""
        self._before.remove()
        self._after.remove()
        for group in self._optimizer.param_groups:
            group["lr"] = group["lr"] * self.d

    @torch.no_grad()
    def _set(self, optimizer: RMSProp, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if any(arg is not None for arg in (*args[1:], kwargs.get("closure"))):
            raise RuntimeError("Prodigy: step() must not be given a closure: d comes before it")
        groups = optimizer.param_groups
        if spread(groups):
            raise RuntimeError("Prodigy: parameters must be whole on each rank, got some in parts")
        overflow = getattr(optimizer, "found_inf", None)
        if overflow is None or not bool(overflow):
            self._estimate(optimizer)
        self._factors = [group["lr"] for group in groups]
        for group in groups:
            group["lr"] = group["lr"] * self.d
        # Those who look after the step are to see the learning rate that it had.
        hooks: Any = optimizer._optimizer_step_post_hooks
        hooks.move_to_end(self._after.id)

    def _set_back(self, optimizer: RMSProp, *_: Any) -> None:
        for group, factor in zip(optimizer.param_groups, self._factors, strict=True):
            group["lr"] = factor

    def _estimate(self, optimizer: RMSProp) -> None:
        """Take the gradients in and raise d."""
        scale = getattr(optimizer, "grad_scale", None)
        unscale = 1.0 if scale is None else 1.0 / float(scale)
        self._shrink_averages(optimizer)
        products, sums = [], {}
        for group in optimizer.param_groups:
            decay = math.sqrt(group["alpha"])
            for p in group["params"]:
                if p.grad is not None:
                    weight = self.d / self.d0 * self.d * self._rate(group, optimizer.state.get(p))
                    g, now = (
                        t.detach().to(torch.promote_types(p.dtype, torch.float32)).flatten()
                        for t in (p.grad * unscale, p)
                    )
                    first = self._first.setdefault(p, now.clone())
                    own = self._sums.setdefault(p, torch.zeros_like(now))
                    sums[p] = (own * decay).add_(g, alpha=weight)
                    products.append(weight * torch.dot(g, first - now))
        if sums:
            sizes = [own.abs().sum() for own in sums.values()]
            device = sizes[0].device
            told = [torch.stack([t.to(device) for t in ts]).sum() for ts in (products, sizes)]
            gained, size = torch.stack(told).tolist()
            if math.isfinite(gained) and math.isfinite(size):  # else nothing is taken in
                self._sums |= sums
                self.numerator *= math.sqrt(optimizer.param_groups[0]["alpha"])
                self.numerator += gained
                self._raise(size)

    def _raise(self, size: float) -> None:
        if size == 0:
            return
        found = self.d_coef * self.numerator / size
        before = self.d
        if self.d == self.d0:
            self.d = max(self.d, found)
        self.largest = max(self.largest, found)
        self.d = min(self.largest, self.d * self.growth)
        self._shrink = (before / self.d) ** 2

    def _shrink_averages(self, optimizer: RMSProp) -> None:
        """v is an average of (d*g)^2/d^2: what came in by a smaller d counts less."""
        if self._shrink != 1.0:
            for state in optimizer.state.values():
                state["square_avg"].mul_(self._shrink)
            self._shrink = 1.0

    def _rate(self, group: Mapping[str, Any], state: Mapping[str, Any] | None) -> float:
        """The factor of a group, as bias correction makes it at the step to come."""
        steps = float((state or {}).get("step", 0.0)) + 1
        seen = 1 - group["alpha"] ** steps if group["bias_correction"] else 1.0
        return float(group["lr"]) * math.sqrt(seen)

    def state_dict(self) -> dict[str, Any]:
        """The estimate and its sums, by number of the parameter."""
        params = self._optimizer._parameters()
        return {
            **{name: getattr(self, name) for name in NUMBERS},
            "shrink": self._shrink,
            "first": {i: self._first[p] for i, p in enumerate(params) if p in self._first},
            "sums": {i: self._sums[p] for i, p in enumerate(params) if p in self._sums},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there; the optimizer's own state dict is loaded beside this."""
        params = self._optimizer._parameters()
        with told_by("Prodigy"):
            numbers = {name: at_least_zero(name, abs(state[name])) for name in NUMBERS}
        first, sums = (
            {params[int(i)]: t.detach().clone().to(params[int(i)].device) for i, t in kept.items()}
            for kept in (state["first"], state["sums"])
        )
        self.__dict__.update(numbers | {"numerator": float(state["numerator"])})
        self._shrink, self._first, self._sums = float(state["shrink"]), first, sums


def free(params: Any, lr: float = 1.0, **settings: Any) -> RMSProp:
    """An RMSProp whose learning rate finds itself; `lr` is the factor on it."""
    optimizer = RMSProp(params, lr=lr, **settings)
    Prodigy(optimizer, lr)
    return optimizer
