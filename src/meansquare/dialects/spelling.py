"""What rows say alike: names for our settings, and what to do where a thing is not offered."""

from typing import Any

from meansquare.dialects.row import Given, Spelling
from meansquare.settings import flag

SCHEDULE = "use torch.optim.lr_scheduler"
CLIP = "give clip_value or max_grad_norm"
LEAVE_OUT = "leave it out"
TORCH_STATE = {name: name for name in ("square_avg", "momentum_buffer", "grad_avg")}


def same(*names: str) -> dict[str, Any]:
    """Arguments that have our names."""
    return {name: name for name in names}


def left_out(*names: str) -> dict[str, Any]:
    """Arguments that have nothing to do here."""
    return dict.fromkeys(names, (None, LEAVE_OUT))


def zero_for_none(name: str) -> Spelling:
    return name, lambda given: {name: 0.0 if given[name] is None else given[name]}


def inside(theirs: str) -> Spelling:
    def place(given: Given) -> Given:
        return {"eps_place": "inside" if flag(theirs, given[theirs]) else "outside"}

    return "eps_place", place
