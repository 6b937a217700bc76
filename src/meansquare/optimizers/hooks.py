"""Who wants to know of a step: hooks of an optimizer, those of all, and a profiler."""

import sys
from collections.abc import Callable, Sized
from itertools import chain
from typing import Any

import torch
from torch.optim.optimizer import (
    Optimizer,
    _global_optimizer_post_hooks,
    _global_optimizer_pre_hooks,
)


def hooks_of(opt: Optimizer) -> tuple[Sized, ...]:
    own = opt._optimizer_step_pre_hooks, opt._optimizer_step_post_hooks
    return *own, _global_optimizer_pre_hooks, _global_optimizer_post_hooks


class Hooked(Optimizer):
    """Steps with their hooks around them, as `Optimizer.profile_hook_step` makes them, but without
    a profiler's record, which takes longer than the step of a small model.
    """

    _step: Any
    _profiled_step: Any
    _traced_step: Any

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Step every parameter that has a gradient; returns what the closure returned."""
        if torch.compiler.is_compiling():
            return self._traced_step(closure)
        self._opt_called = True  # which schedulers want to know
        if torch.autograd.profiler._is_profiler_enabled:
            return self._profiled_step(closure)
        # Hooks are called from here: a function for it would take as long as one of them.
        own, everyones = self._optimizer_step_pre_hooks, _global_optimizer_pre_hooks
        if not (
            own or everyones or self._optimizer_step_post_hooks or _global_optimizer_post_hooks
        ):
            return self._step(closure)
        kwargs: dict[str, Any] = {}
        given: tuple[Any, ...] = (self, closure)
        args = given
        # To chain dicts that are mostly empty would take longer than to call a hook.
        for before in chain(everyones.values(), own.values()) if everyones else own.values():
            changed = before(self, args, kwargs)
            if changed is not None:
                args, kwargs = changed
        is_given = args is given and not kwargs
        out = self._step(closure) if is_given else type(self)._step(*args, **kwargs)
        if self._optimizer_step_post_hooks:
            for after in self._optimizer_step_post_hooks.values():
                after(self, args, kwargs)
        if _global_optimizer_post_hooks:
            for after in _global_optimizer_post_hooks.values():
                after(self, args, kwargs)
        return out

    # torch would put every step, watched or not, into that record.
    step.hooked = True  # type: ignore[attr-defined]
    # Its schedulers would wrap the step to see whether it was called, where a graph breaks.
    step._wrapped_by_lr_sched = True  # type: ignore[attr-defined]


def is_asked_for_state() -> bool:
    """Whether this step is torch.distributed.checkpoint's, to see what state there will be: it has
    no learning rate and gradients of zeros, and nothing is to be kept of it.
    """
    frame = sys._getframe(2)
    for _ in range(8):
        if frame is None or frame.f_code.co_name == "_init_optim_state":
            return frame is not None
        frame = frame.f_back
    return False
