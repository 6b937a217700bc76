"""The size of a step: a learning rate that is found, or finds itself; decay as a half-life."""

from meansquare.step_size.half_life import HalfLife
from meansquare.step_size.prodigy import Prodigy

__all__ = ["HalfLife", "Prodigy"]
