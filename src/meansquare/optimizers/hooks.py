"""Who wants to know of a step: hooks of an optimizer, those of all, and a profiler."""

from collections.abc import Sized

import torch
from torch.optim.optimizer import (
    Optimizer,
    _global_optimizer_post_hooks,
    _global_optimizer_pre_hooks,
)


def hooks_of(opt: Optimizer) -> tuple[Sized, ...]:
    own = opt._optimizer_step_pre_hooks, opt._optimizer_step_post_hooks
    return *own, _global_optimizer_pre_hooks, _global_optimizer_post_hooks


def is_watched(opt: Optimizer) -> bool:
    """Whether a profiler or a hook wants to know of this step."""
    return torch.autograd.profiler._is_profiler_enabled or any(hooks_of(opt))
