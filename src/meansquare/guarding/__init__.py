"""Steps that are looked at before they are made, and left out or undone where they do harm."""

from meansquare.guarding.guard import Guard
from meansquare.guarding.looking import Event

__all__ = ["Event", "Guard"]
