"""What rows say alike: names for our settings, and what to do where a thing is not offered."""

from collections.abc import Callable, Mapping
from typing import Any

from meansquare.settings import flag

Given = Mapping[str, Any]

SCHEDULE = "use torch.optim.lr_scheduler"
CLIP = "give clip_value or max_grad_norm"
LEAVE_OUT = "leave it out, it changes no step"
TORCH_STATE = {name: name for name in ("square_avg", "momentum_buffer", "grad_avg")}


def same(*names: str) -> dict[str, Any]:
    """Arguments that have our names."""
    return {name: name for name in names}


def zero_for_none(theirs: str, ours: str) -> Callable[[Given], Given]:
    return lambda given: {ours: 0.0 if given[theirs] is None else given[theirs]}


def inside(theirs: str) -> Callable[[Given], Given]:
    return lambda given: {"eps_place": "inside" if flag(theirs, given[theirs]) else "outside"}


def norm_without_eps(theirs: str) -> Callable[[Given], Given]:
    return lambda given: {"max_grad_norm": given[theirs], "grad_norm_eps": 0.0}
