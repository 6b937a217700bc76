"""The last good states of training, in memory or on disk, a bounded number of them."""

import os
import warnings
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from meansquare.guarding.chance import chance, set_chance
from meansquare.parts import part


@dataclass(frozen=True)
class Snapshot:
    """What training was after a step: weights, state by number of the parameter, random state."""

    step: int
    weights: list[Tensor]
    state: list[dict[str, Any]]
    chance: dict[str, Any]
    others: list[dict[str, Any]]


class Snapshots:
    """At most `keep` snapshots; with a folder they are files there, which are replaced whole."""

    def __init__(self, keep: int, folder: Path | None, others: Sequence[Any]) -> None:
        self._keep, self._folder, self._others = keep, folder, others
        self._held: list[tuple[int, Snapshot | Path]] = []
        self.failed = 0

    def take(self, optimizer: Optimizer, step: int) -> None:
        """Keep what is now; where the disk does not take it, that is counted and told once."""
        made: Snapshot | Path = self._of(optimizer, step)
        if self._folder is not None:
            try:
                made = _written(made, self._folder)
            except (OSError, RuntimeError) as error:  # torch's zip writer raises the latter
                self.failed += 1
                if self.failed == 1:
                    what = getattr(error, "strerror", None) or str(error).splitlines()[0]
                    warnings.warn(
                        f"Guard: cannot write a snapshot to {self._folder} ({what}); training goes "
                        "on with the last one, and failures are counted in guard.failed_snapshots",
                        RuntimeWarning,
                        stacklevel=2,
                    )
                return
        self._held.append((step, made))
        while len(self._held) > self._keep:
            _forget(self._held.pop(0)[1])

    def restore(self, optimizer: Optimizer, step: int, age: int) -> int | None:
        """Go back to the newest that is `age` steps old, else to the oldest; returns its step.

        Newer ones are dropped. None where there is none.
        """
        if not self._held:
            return None
        old = [i for i, (taken, _) in enumerate(self._held) if step - taken >= age]
        place = old[-1] if old else 0
        for _, later in self._held[place + 1 :]:
            _forget(later)
        self._held = self._held[: place + 1]
        taken, held = self._held[place]
        snapshot = _read(held) if isinstance(held, Path) else held
        _restore(snapshot, optimizer, self._others)
        return taken

    def drop_newest(self) -> None:
        """Let go of the newest, unless it is the only one: it led to the same end again."""
        if len(self._held) > 1:
            _forget(self._held.pop()[1])

    def _of(self, optimizer: Optimizer, step: int) -> Snapshot:
        params = [p for group in optimizer.param_groups for p in group["params"]]
        return Snapshot(
            step,
            [part(p.detach()).clone() for p in params],
            [
                {
                    name: part(value.detach()).clone() if isinstance(value, Tensor) else value
                    for name, value in optimizer.state.get(p, {}).items()
                }
                for p in params
            ],
            chance(),
            [deepcopy(other.state_dict()) for other in self._others],
        )


def _restore(snapshot: Snapshot, optimizer: Optimizer, others: Sequence[Any]) -> None:
    params = [p for group in optimizer.param_groups for p in group["params"]]
    with torch.no_grad():
        for p, weights, kept in zip(params, snapshot.weights, snapshot.state, strict=True):
            part(p).copy_(weights)
            own = optimizer.state.get(p, {})
            for name in [*own]:
                if name not in kept:
                    del own[name]
                elif isinstance(own[name], Tensor):
                    part(own[name]).copy_(kept[name])
                else:
                    own[name] = kept[name]
    for other, kept in zip(others, snapshot.others, strict=True):
        other.load_state_dict(deepcopy(kept))
    set_chance(snapshot.chance)


def _written(snapshot: Snapshot, folder: Path) -> Path:
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    path = folder / f"snapshot-rank{rank}-step{snapshot.step}.pt"
    draft = path.with_suffix(f".{os.getpid()}.draft")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        torch.save(vars(snapshot), draft)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return path


def _read(path: Path) -> Snapshot:
    return Snapshot(**torch.load(path, weights_only=True, map_location="cpu"))


def _forget(held: Snapshot | Path) -> None:
    if isinstance(held, Path):
        held.unlink(missing_ok=True)
