"""What the optimizers share: groups, state and hooks of torch.optim; no arithmetic."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT
from torch.utils.hooks import RemovableHandle

from meansquare.guarding import Guard
from meansquare.hyper import RUN_CHECKS, Hyper
from meansquare.kernels import cpu, warn_without_compiler
from meansquare.kernels.plan import Plan
from meansquare.kernels.ranks import check_alike, on_any
from meansquare.kernels.request import Request
from meansquare.optimizers import traced
from meansquare.optimizers.explained import explained
from meansquare.optimizers.hooks import Hooked, hooks_of, is_asked_for_state
from meansquare.optimizers.in_backward import InBackward
from meansquare.settings import STATE_FORMAT, shown, told_by
from meansquare.state import STATE_DTYPES, check_kind, lacking, loaded

_NO_NORM = (
    "max_grad_norm must be None where parameters are stepped in backward: it needs all gradients "
    "at once; use clip_value"
)
_NO_GUARD = "guard must be None where parameters are stepped in backward"


class FusedOptimizer(Hooked):
    """What the members of the family share: everything but their settings."""

    _step_supports_amp_scaling = True
    """Tells `torch.amp.GradScaler` to leave the gradients as they are: steps unscale them."""
    guard: Guard | None = None
    _kind: ClassVar[type[Hyper]]
    _in_backward: dict[Tensor, RemovableHandle]

    def __init_subclass__(cls) -> None:
        # torch.compile loses what a constructor has set where its graph breaks.
        cls.__init__ = torch._disable_dynamo(cls.__init__)  # type: ignore[attr-defined]

    def __init__(self, params: ParamsT, given: dict[str, Any]) -> None:
        names = (*self._kind.names(), *RUN_CHECKS)
        self._forget()
        self._in_backward = {}
        self.guard = given.get("guard")
        if not isinstance(self.guard, Guard | None):
            raise TypeError(
                f"{type(self).__name__}: guard must be a Guard, got {shown(self.guard)}"
            )
        self._traced = traced.Traced(self._kind)
        defaults = {name: given[name] for name in names if name in given}
        super().__init__(params, defaults)
        warn_without_compiler()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, with the defaults for whatever it leaves out.

        Raises ValueError or TypeError as the constructor does; nothing is added then.
        """
        if isinstance(param_group, dict):  # torch refuses anything else
            where = f" in group {len(self.param_groups)}"
            hyper = self._check(self.defaults | param_group, where)
            if self._in_backward and hyper.max_grad_norm is not None:
                raise ValueError(f"{type(self).__name__}: {_NO_NORM}{where}")
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        group.setdefault("state_format", STATE_FORMAT)
        for name in self._kind.names():  # a list may change in place: it would be checked always
            if isinstance(group.get(name), list):
                group[name] = tuple(group[name])
        if self._in_backward:
            self._in_backward |= self._attached(group["params"])
        self._traced.fill(self)

    def _step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # A GradScaler sets these for the time of a step, and multiplies a scale that it finds.
        scale, overflow = getattr(self, "grad_scale", None), getattr(self, "found_inf", None)
        if overflow is not None and on_any(bool(overflow), self.param_groups):
            return loss
        unscale = 1.0 if scale is None else 1 / scale.item()
        if scale is not None:
            with told_by(type(self).__name__):
                check_alike(unscale, self.param_groups)
        if not self.state and is_asked_for_state():
            self._prepare([p for p in self._parameters() if p.grad is not None])
        elif self.guard is None:
            self._run(None, unscale)
        else:
            self.guard.step(self, loss, unscale)
        return loss

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    _profiled_step = Optimizer.profile_hook_step(_step)

    def _traced_step(self, closure: Callable[[], Any] | None) -> Any:
        from meansquare.optimizers import between

        # Dynamo guards the length of a dict of hooks, and not whether it is empty.
        watched = sum(map(len, hooks_of(self))) or torch.autograd.profiler._is_profiler_enabled
        if watched or hasattr(self, "found_inf") or self.guard is not None:
            return between.step(self, closure)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self._prepare_trace() and not self._traced.otherwise:
            traced.step(self._traced)
        else:
            between.step(self, None)
        return loss

    def _prepare_trace(self) -> bool:
        """Called while a graph is made, and not when it runs: it holds what this returned."""
        return self._traced.prepare(self)

    # As torch.compiler.assume_constant_result does, which would load the compiler.
    _prepare_trace._dynamo_marked_constant = True  # type: ignore[attr-defined]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop all gradients, or fill them with zeros."""
        if not (torch.compiler.is_compiling() and set_to_none):
            super().zero_grad(set_to_none)
            return
        self._prepare_trace()
        for p in self._traced.params:
            p.grad = None

    def _run(self, only: int | None, unscale: float = 1.0) -> None:
        hypers = self._checked_groups()
        try:
            self._plan.step(Request(self.param_groups, self.state, hypers, only, unscale))
        except (TypeError, ValueError, RuntimeError):
            with told_by(type(self).__name__):
                raise

    def step_in_backward(self) -> InBackward:
        """Step each parameter within `backward()`, as soon as its gradient is there, and free that.

        So no two gradients need be held at a time; `step()` then finds none, but those of
        parameters that did not require one when this was called. Every backward is a step:
        gradients cannot be accumulated, nor unscaled, and step hooks are not called. Returns a
        handle whose `remove()` ends it, as does a `with` block around it. Raises ValueError where a
        group has `max_grad_norm`, which needs all gradients at once.
        """
        self._refuse_norm()
        params = self._parameters()
        self._prepare(params)
        attached = self._attached([p for p in params if p not in self._in_backward])
        self._in_backward |= attached
        return InBackward(self._in_backward, attached)

    def _attached(self, params: Sequence[Tensor]) -> dict[Tensor, RemovableHandle]:
        return {
            p: p.register_post_accumulate_grad_hook(self._step_one)
            for p in params
            if p.requires_grad
        }

    def _step_one(self, p: Tensor) -> None:
        self._refuse_norm()
        number = next((i for i, q in enumerate(self._parameters()) if q is p), None)
        if number is not None:
            self._run(number)
            p.grad = None

    def _refuse_norm(self) -> None:
        """Nor a guard, which looks at all gradients at once, too."""
        if self.guard is not None:
            raise ValueError(f"{type(self).__name__}: {_NO_GUARD}")
        for i, hyper in enumerate(self._checked_groups()):
            if hyper.max_grad_norm is not None:
                raise ValueError(f"{type(self).__name__}: {_NO_NORM} in group {i}")

    def _prepare(self, params: Sequence[Tensor]) -> None:
        """Give parameters the state that their first step would."""
        chosen = set(params)
        with told_by(type(self).__name__):
            for group, hyper in zip(self.param_groups, self._checked_groups(), strict=True):
                for p in group["params"]:
                    if p in chosen and p.dtype in STATE_DTYPES:
                        self.state[p] |= lacking(p, self.state[p], hyper)

    def explain(self) -> None:
        """Print which kernel steps which tensors, why a tensor falls back, and bytes of state."""
        hypers = self._checked_groups()
        choices = self._plan.choices(self.param_groups, hypers)
        for line in explained(self.param_groups, self.state, hypers, choices):
            print(line)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a state dict of this class or of its namesake in torch.optim and go on from there.

        Parameters are matched by name where both sides have names, else by position. Keys that
        torch does not know keep their present values. Raises ValueError or TypeError naming the
        parameter where names, shapes or kinds differ, or state is missing or impossible; nothing
        is changed then.
        """
        with told_by(type(self).__name__):
            check_kind(state_dict, Mapping, "a state dict")
        # torch's own would match by position and cast float32 state to the parameter's dtype.
        state_dict = dict(state_dict)
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            changed = before(self, state_dict)
            state_dict = state_dict if changed is None else changed
        with torch.inference_mode(False), told_by(type(self).__name__):  # state is to be written
            state, groups = loaded(self._kind, self.param_groups, state_dict)
        for i, (ours, theirs) in enumerate(zip(self.param_groups, groups, strict=True)):
            where = f" in group {i} of the state dict"
            with told_by(type(self).__name__, where):
                groups[i] = self._loaded_group(ours, theirs)
            self._check(ours | groups[i], where)
        self.__setstate__({"state": state, "param_groups": groups})
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def _loaded_group(self, ours: Mapping[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
        """A group of a state dict, in our words."""
        return theirs

    def __getstate__(self) -> dict[str, Any]:
        # Hooks on parameters stay with the parameters.
        return super().__getstate__() | {"_in_backward": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        known = [group.copy() for group in getattr(self, "param_groups", [])]
        self.__dict__ = {"_in_backward": {}} | self.__dict__
        super().__setstate__(state)
        for i, group in enumerate(self.param_groups):
            for name, value in (known[i] if i < len(known) else self.defaults).items():
                group.setdefault(name, value)
            group.setdefault("state_format", STATE_FORMAT)
        self._forget()
        if not hasattr(self, "_traced"):
            self._traced = traced.Traced(self._kind)
        self._traced.fill(self)  # graphs go on with what was loaded

    def _forget(self) -> None:
        """Drop what is kept between steps; the next step makes it anew."""
        self._plan = Plan(self._kind)
        self._known: tuple[Any, list[Hyper]] = None, []

    def _checked_groups(self) -> list[Hyper]:
        """The Hyper of each group; the same list while no setting has changed.

        A changed learning rate is read by the kernels and makes no other list, unless a parameter
        is stepped by reference.
        """
        whole, groups, native = not self._plan.is_whole, self.param_groups, cpu.native
        settings, hypers = self._known
        if settings is not None and native.unchanged(settings, groups, whole):
            return hypers
        names = {*self._kind.names(), *RUN_CHECKS}
        # Remembered before they are checked: what another thread changes in between is seen later.
        new = native.Settings() if native else None
        for i, group in enumerate(groups if native else ()):
            native.remember(new, i, group, names)
        now = [
            hypers[i]
            if settings is not None and native.unchanged_group(settings, i, group, True)
            else self._check(group, f" in group {i}")
            for i, group in enumerate(groups)
        ]
        self._known = new, now
        return now

    def _check(self, group: Mapping[str, Any], where: str) -> Any:
        return self._kind.checked(group, type(self).__name__, where)
