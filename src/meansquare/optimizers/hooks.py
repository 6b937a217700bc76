"""Who wants to know of a step: hooks of an optimizer, those of all, and a profiler."""

import sys
from collections.abc import Callable, Sized
from typing import Any

from torch.optim.optimizer import (
    Optimizer,
    _global_optimizer_post_hooks,
    _global_optimizer_pre_hooks,
)


def hooks_of(opt: Optimizer) -> tuple[Sized, ...]:
    own = opt._optimizer_step_pre_hooks, opt._optimizer_step_post_hooks
    return *own, _global_optimizer_pre_hooks, _global_optimizer_post_hooks


def hooked_step(opt: Optimizer, step: Callable[..., Any], *given: Any) -> Any:
    """A step with its hooks around it, as `Optimizer.profile_hook_step` does without a profiler,
    whose record takes longer than the step of a small model.
    """
    args, kwargs = (opt, *given), dict[str, Any]()
    is_changed = False
    for hooks in (_global_optimizer_pre_hooks, opt._optimizer_step_pre_hooks):
        if hooks:  # to go through an empty one takes as long as to call a hook
            for before in hooks.values():
                changed = before(opt, args, kwargs)
                if changed is not None:
                    (args, kwargs), is_changed = changed, True
    out = step(*args, **kwargs) if is_changed else step(opt, *given)
    for hooks in (opt._optimizer_step_post_hooks, _global_optimizer_post_hooks):
        if hooks:
            for after in hooks.values():
                after(opt, args, kwargs)
    return out


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
