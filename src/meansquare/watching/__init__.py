"""What an optimizer does, seen while it trains: probes, where they are written, the sharpness."""

from meansquare.watching.watcher import Watcher, watch

__all__ = ["Watcher", "watch"]
