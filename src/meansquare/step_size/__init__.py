"""The size of a step: a learning rate that is found, or finds itself; decay as a half-life."""

from meansquare.step_size.half_life import HalfLife
from meansquare.step_size.prodigy import Prodigy
from meansquare.step_size.suggest import Suggestion, suggest_lr

__all__ = ["HalfLife", "Prodigy", "Suggestion", "suggest_lr"]
