"""The optimizers: parameter groups, state and hooks of torch.optim; no arithmetic."""

from collections.abc import Callable, Mapping
from operator import is_, itemgetter
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import (
    Optimizer,
    ParamsT,
    _global_optimizer_post_hooks,
    _global_optimizer_pre_hooks,
)

from meansquare.kernels import warn_without_compiler
from meansquare.kernels.plan import Plan
from meansquare.spec import BACKEND_NAMES, HYPER_NAMES, EpsPlace, Hyper, WeightDecayMode
from meansquare.state import check_kind, loaded

_values = itemgetter(*HYPER_NAMES, *BACKEND_NAMES)
_PLAIN = {float, int, bool, str, type(None)}


class RMSProp(Optimizer):
    r"""RMSProp, a drop-in for `torch.optim.RMSprop` in one pass over memory.

    v = alpha*v + (1-alpha)*g^2;  p = p - lr*g/(sqrt(v)+eps)

    Takes the arguments of `torch.optim.RMSprop` in their order and with their defaults, and gives
    its trajectory; the keyword-only arguments are the switches in which other frameworks differ.
    State (`square_avg`, `momentum_buffer`, `grad_avg`) is float32 for bfloat16, float16 and
    float32 parameters, float64 for float64, and complex as the parameter is (as two reals).
    bfloat16 and float16 parameters are rounded stochastically, so that small steps add up.

    Args:
        params: parameters, named parameters or dicts of groups, as torch.optim takes them
        lr: learning rate, a number or a tensor of one element
        alpha: decay of the averages, in [0, 1)
        eps: added to the denominator
        weight_decay: L2 penalty, or decoupled (see `weight_decay_mode`)
        momentum: factor mu of the buffer b = mu*b + g/(sqrt(v)+eps), by which p then moves
        centered: divide by the standard deviation sqrt(v - m^2), m = alpha*m + (1-alpha)*g; the
            variance is held above v*2**-20 (2**-49 in float64), where torch gives NaN
        capturable, foreach, fused: accepted; every step is fused where a kernel is
        maximize: ascend
        differentiable: let autograd follow the step (through torch operations)
        eps_place: `outside` sqrt(v)+eps, `inside` sqrt(v+eps), `max` max(sqrt(v), eps)
        nesterov: move by g/(sqrt(v)+eps) + mu*b instead of b
        lr_in_momentum: the learning rate enters the buffer (TensorFlow, Keras)
        bias_correction: divide v (and m) by 1 - alpha^t
        initial_square_avg: v before the first step (1 in TensorFlow 1)
        weight_decay_mode: `l2` adds weight_decay*p to g; `decoupled` multiplies p by
            1 - lr*weight_decay; `corrected` by 1 - lr^2/reference_lr*weight_decay
        reference_lr: largest learning rate of the schedule, for `corrected` (default: lr)
        seed: of the stochastic rounding

    Raises:
        ValueError, TypeError: an argument out of range or of the wrong kind; at a step, a sparse
            gradient or a dtype without a rule. Nothing is changed then.

    Source: Hinton, Neural Networks for Machine Learning, lecture 6e (2012); torch 2.13,
    torch/optim/rmsprop.py; centered: Graves 2013, arXiv:1308.0850, equations 38-45.

    >>> p = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    >>> opt = RMSProp([p], lr=0.01)
    >>> p.square().sum().backward()
    >>> opt.step()
    >>> p.detach()
    tensor([0.9000, 1.9000])
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        *,
        fused: bool | None = None,
        eps_place: EpsPlace = "outside",
        nesterov: bool = False,
        lr_in_momentum: bool = False,
        bias_correction: bool = False,
        initial_square_avg: float = 0.0,
        weight_decay_mode: WeightDecayMode = "l2",
        reference_lr: float | None = None,
        seed: int = 0,
    ) -> None:
        given = dict(locals())
        defaults = {name: given[name] for name in (*HYPER_NAMES, *BACKEND_NAMES)}
        self._forget()
        super().__init__(params, defaults)
        warn_without_compiler()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, with the defaults for whatever it leaves out.

        Raises ValueError or TypeError as the constructor does; nothing is added then.
        """
        if isinstance(param_group, dict):  # torch refuses anything else
            _check(self.defaults | param_group, f" in group {len(self.param_groups)}")
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        group["reference_lr"] = _check(group, "").reference_lr

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Step every parameter that has a gradient; returns what the closure returned."""
        return self._watched_step(closure) if _is_watched(self) else self._step(closure)

    # torch would put every step, watched or not, into a profiler's record, which takes longer than
    # the step of a small model.
    step.hooked = True  # type: ignore[attr-defined]

    def _step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        hypers = [self._hyper(i, group) for i, group in enumerate(self.param_groups)]
        self._plan.step(self.param_groups, self.state, hypers)
        return loss

    _watched_step = Optimizer.profile_hook_step(_step)

    def explain(self) -> None:
        """Print which kernel steps which tensors, why a tensor falls back, and bytes of state."""
        choices = self._plan.choices(self.param_groups)
        for i, group in enumerate(self.param_groups):
            spec = _check(group, f" in group {i}").spec
            print(f"group {i}: {spec.key}, {_described(group['params'], self.state)}")
            lines = [choices[p] for p in group["params"]]
            for choice in dict.fromkeys(lines):
                tensors = [
                    p for p, own in zip(group["params"], lines, strict=True) if own == choice
                ]
                why = f" ({choice.reason})" if choice.reason else ""
                print(f"  {choice.kernel}: {_described(tensors, self.state)}{why}")

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a state dict of this class or of torch.optim.RMSprop and go on from there.

        Parameters are matched by name where both sides have names, else by position. Keys that
        torch does not know keep their present values. Raises ValueError or TypeError naming the
        parameter where names, shapes or kinds differ, or state is missing or impossible; nothing
        is changed then.
        """
        check_kind(state_dict, Mapping, "a state dict")
        # torch's own would match by position and cast float32 state to the parameter's dtype.
        state_dict = dict(state_dict)
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            changed = before(self, state_dict)
            state_dict = state_dict if changed is None else changed
        with torch.inference_mode(False):  # state is to be written outside of it, too
            state, groups = loaded(self.param_groups, state_dict)
        for i, (ours, theirs) in enumerate(zip(self.param_groups, groups, strict=True)):
            _check(ours | theirs, f" in group {i} of the state dict")
        self.__setstate__({"state": state, "param_groups": groups})
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        known = [group.copy() for group in getattr(self, "param_groups", [])]
        super().__setstate__(state)
        for i, group in enumerate(self.param_groups):
            for name, value in (known[i] if i < len(known) else self.defaults).items():
                group.setdefault(name, value)
        self._forget()

    def _forget(self) -> None:
        """Drop what is kept between steps; the next step makes it anew."""
        self._plan = Plan()
        self._hypers: dict[int, tuple[tuple, Hyper]] = {}

    def _hyper(self, i: int, group: dict[str, Any]) -> Hyper:
        """The checked Hyper of group i, made anew only when a value has changed."""
        values = _values(group)
        seen = self._hypers.get(i)
        if seen is not None and all(map(is_, seen[0], values)):
            return seen[1]
        hyper = _check(group, f" in group {i}")
        self._hypers.pop(i, None)
        if all(type(value) in _PLAIN for value in values):  # others change in place
            self._hypers[i] = values, hyper
        return hyper


def _is_watched(opt: Optimizer) -> bool:
    """Whether a profiler or a hook wants to know of this step."""
    return bool(
        torch.autograd.profiler._is_profiler_enabled
        or opt._optimizer_step_pre_hooks
        or opt._optimizer_step_post_hooks
        or _global_optimizer_pre_hooks
        or _global_optimizer_post_hooks
    )


def _check(group: Mapping[str, Any], where: str) -> Hyper:
    if group["reference_lr"] is None:
        group = {**group, "reference_lr": group["lr"]}
    return Hyper.checked(group, where)


def _described(tensors: list[Tensor], state: Mapping[Tensor, dict]) -> str:
    """Number and dtypes of some tensors, and the bytes of their state."""
    dtypes = ", ".join(dict.fromkeys(str(p.dtype).removeprefix("torch.") for p in tensors))
    size = sum(
        value.nbytes
        for p in tensors
        for value in state.get(p, {}).values()
        if isinstance(value, Tensor)
    )
    return f"{len(tensors)} tensors of {dtypes or 'nothing'}, {size:,} bytes of state"
