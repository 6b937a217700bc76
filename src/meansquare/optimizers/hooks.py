"""Who wants to know of a step: hooks of an optimizer, those of all, and a profiler."""

import sys
from collections.abc import Callable, Sized
from itertools import chain
from typing import Any

from torch.optim.optimizer import (
    Optimizer,
    _global_optimizer_post_hooks,
    _global_optimizer_pre_hooks,
)


def hooks_of(opt: Optimizer) -> tuple[Sized, ...]:
    own = opt._optimizer_step_pre_hooks, opt._optimizer_step_post_hooks
    return *own, _global_optimizer_pre_hooks, _global_optimizer_post_hooks


def hooked_step(opt: Optimizer, step: Callable[..., Any], closure: Any) -> Any:
    """A step with its hooks around it, as `Optimizer.profile_hook_step` does without a profiler,
    whose record takes longer than the step of a small model.
    """
    kwargs: dict[str, Any] = {}
    args = given = (opt, closure)
    own = opt._optimizer_step_pre_hooks
    everyones = _global_optimizer_pre_hooks
    # To chain dicts that are mostly empty would take longer than to call a hook.
    for before in chain(everyones.values(), own.values()) if everyones else own.values():
        changed = before(opt, args, kwargs)
        if changed is not None:
            args, kwargs = changed
    out = step(opt, closure) if args is given and not kwargs else step(*args, **kwargs)
    if opt._optimizer_step_post_hooks:
        for after in opt._optimizer_step_post_hooks.values():
            after(opt, args, kwargs)
    if _global_optimizer_post_hooks:
        for after in _global_optimizer_post_hooks.values():
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
