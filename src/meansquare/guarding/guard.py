"""`Guard`: what is done about gradients that are not finite, and about spikes."""

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from meansquare.guarding.looking import Event, Seen, look
from meansquare.guarding.snapshots import Snapshots
from meansquare.guarding.usual import Norms, Window
from meansquare.kernels.places import Place, places_of
from meansquare.settings import above_zero, count, fraction, one_of, optional, shown, told_by

NonFinite = Literal["skip", "zero", "raise"]
Spike = Literal["warn", "skip", "lower", "rollback"]
MOST_EVENTS = 10_000


class Guard:
    """Looks at every step of an optimizer before it is made: `RMSProp(params, guard=Guard())`.

    A gradient is judged before it enters the second moment: a spike moves a weight by at most
    lr/sqrt(1-alpha), and the harm comes after, from a v that holds it. A step that is skipped
    changes nothing: neither weights nor state nor step counts.

    Args:
        nonfinite: what is done where a gradient or the loss is NaN or infinite: `skip` the step,
            `zero` those numbers of the gradients, or `raise` FloatingPointError
        spike: what is done where the loss or the norm of all gradients is far above what is usual:
            `warn`, `skip` the step, `lower` the step for a while, or `rollback` to the last good
            snapshot and go on with the next batch, the step lowered for a while
        threshold: the robust z-score, (x - median)/(1.4826 * median deviation) of log x over the
            last good steps, above which something is a spike
        margin: a spike is also above the largest of them by this many times the distance of that
            one from the median: what has a heavy tail raises no alarm
        window: how many good steps are remembered
        warmup: how many have to be there to judge by
        clip: each gradient whose norm is more than `clip` times its running median is brought down
            to that, in place; None: none is
        patience: so many spikes in a row are not spikes: what they showed becomes the usual
        lower_by, lower_for: the factor on the learning rate, and for how many steps
        snapshot_every, keep, folder: good steps between snapshots, how many are kept, and where
            (None: in memory)
        snapshot_age: how many steps before a spike a snapshot has to be to be gone back to
        others: what else goes back: anything with state_dict and load_state_dict (a model for its
            buffers, a scheduler)
        agree: in torch.distributed, decide by the mean loss and the largest norm of all processes,
            each of which is to step

    Costs one more read of the gradients, and a wait for the device, at each step. The loss is
    known where `step` is given a closure, or is told by `saw`. Weights stay where they are: what
    a guard does is in `events` (the last 10,000) and told to `listeners`.

    Raises ValueError and TypeError for arguments out of range or of another kind.
    Source: the mechanism of spikes, arXiv:2506.04805; a z-score on gradient norms, ZClip
    (arXiv:2504.02507); limits by each tensor's own norm, AdaGC (arXiv:2502.11034).

    >>> import torch
    >>> from meansquare import RMSProp
    >>> p = torch.nn.Parameter(torch.ones(2))
    >>> opt = RMSProp([("w", p)], guard=Guard())
    >>> p.grad = torch.tensor([1.0, float("nan")])
    >>> opt.step()
    >>> p.detach(), opt.guard.events[0].what, opt.guard.events[0].layers
    (tensor([1., 1.]), 'non-finite gradient', ('w',))
    """

    def __init__(
        self,
        nonfinite: NonFinite = "skip",
        spike: Spike = "skip",
        *,
        threshold: float = 6.0,
        margin: float = 1.0,
        window: int = 128,
        warmup: int = 32,
        clip: float | None = None,
        patience: int = 10,
        lower_by: float = 0.1,
        lower_for: int = 50,
        snapshot_every: int = 50,
        keep: int = 2,
        folder: str | os.PathLike[str] | None = None,
        snapshot_age: int = 10,
        others: Sequence[Any] = (),
        agree: bool = True,
    ) -> None:
        with told_by("Guard"):
            self.nonfinite = one_of(("skip", "zero", "raise"))("nonfinite", nonfinite)
            self.spike = one_of(("warn", "skip", "lower", "rollback"))("spike", spike)
            self.threshold = above_zero("threshold", threshold)
            self.margin = above_zero("margin", margin)
            self.clip = optional(above_zero)("clip", clip)
            self.lower_by = fraction("lower_by", lower_by)
            self.patience = count("patience", patience)
            self.lower_for = count("lower_for", lower_for)
            self.snapshot_every = count("snapshot_every", snapshot_every)
            self.snapshot_age = count("snapshot_age", snapshot_age)
            window, warmup = count("window", window), count("warmup", warmup)
            if warmup > window:
                raise ValueError(f"warmup must be at most window, got {warmup} of {window}")
            for other in others:
                if not hasattr(other, "state_dict") or not hasattr(other, "load_state_dict"):
                    raise TypeError(
                        f"others must have state_dict and load_state_dict, got {shown(other)}"
                    )
            place = None if folder is None else Path(folder)
            self._snapshots = Snapshots(count("keep", keep), place, others)
        self.agree = bool(agree)
        self.events: deque[Event] = deque(maxlen=MOST_EVENTS)
        self.listeners: list[Callable[[Event], Any]] = []
        self._losses, self._totals = Window(window, warmup), Window(window, warmup)
        self._norms = Norms(window, warmup)
        self._steps = self._batches = self._good = 0
        self._in_a_row = self._broken_in_a_row = self._lowered = 0
        self._loss: Any = None
        self._places: list[Place] = []
        self._batch: Any = None

    @property
    def failed_snapshots(self) -> int:
        """How many snapshots the disk did not take."""
        return self._snapshots.failed

    def saw(self, loss: Tensor | float, batch: Any = None) -> None:
        """Tell the loss of the step to come, and how its batch is called (else batches count)."""
        self._loss, self._batch = loss, batch

    def step(self, optimizer: Any, loss: Any, unscale: float) -> None:
        """Make the step of an optimizer, or what is to be done instead; it is called by that."""
        seen = self._look(optimizer, loss, unscale)
        self._batches += 1
        if seen.broken and not self._mend(optimizer, seen):
            return
        self._broken_in_a_row = 0
        if self._is_spike(seen) and not self._answer(optimizer, seen):
            return
        self._clip(seen)
        with self._slowed(optimizer):
            optimizer._run(None, unscale)
        self._steps += 1
        self._learn(optimizer, seen)

    def _look(self, optimizer: Any, loss: Any, unscale: float) -> Seen:
        loss = self._loss if loss is None else loss
        batch = self._batches if self._batch is None else self._batch
        self._loss = self._batch = None
        value = loss.item() if isinstance(loss, Tensor) else loss
        return look(optimizer, self._known(optimizer), value, batch, unscale, self.agree)

    def _known(self, optimizer: Any) -> list[Place]:
        """The places of the parameters, made anew when these are others."""
        params = [p for group in optimizer.param_groups for p in group["params"]]
        if len(params) != len(self._places) or any(
            p is not place.parameter for p, place in zip(params, self._places, strict=True)
        ):
            self._places = places_of(optimizer.param_groups)
        return self._places

    def _mend(self, optimizer: Any, seen: Seen) -> bool:
        """Do something about what is not finite; whether to step now."""
        self._broken_in_a_row += 1
        what = "non-finite gradient" if seen.layers else "non-finite loss"
        stuck = self._broken_in_a_row >= self.patience
        if self.nonfinite == "raise":
            self._tell(seen, what, "raise")
            where = f" in {', '.join(seen.layers)}" if seen.layers else ""
            raise FloatingPointError(
                f"Guard: {what}{where} at batch {seen.batch}; nothing was changed"
            )
        if stuck and self.spike == "rollback":
            return self._roll_back(optimizer, seen, f"{what} {self._broken_in_a_row} times")
        if self.nonfinite == "zero" and seen.layers:
            self._tell(seen, what, "zero")
            seen.zero()
            return True
        self._tell(seen, what, "skip")
        if self._broken_in_a_row == self.patience:
            warnings.warn(
                f"Guard: {what} {self.patience} times in a row; the weights may be broken: "
                "Guard(spike='rollback') would go back",
                RuntimeWarning,
                stacklevel=4,
            )
        return False

    def _is_spike(self, seen: Seen) -> bool:
        if seen.loss is not None:
            seen.z["loss"] = self._losses.score(seen.loss, self.margin)
        seen.z["gradient"] = self._totals.score(seen.total, self.margin)
        return seen.worst > self.threshold

    def _answer(self, optimizer: Any, seen: Seen) -> bool:
        """Do something about a spike; whether to step now."""
        self._in_a_row += 1
        what = "spike in the " + max(seen.z, key=lambda name: seen.z[name])
        if self._in_a_row > self.patience:
            self._tell(seen, f"{what}, {self.patience} times before", "taken for usual")
            self._losses.clear()
            self._totals.clear()
            self._in_a_row = 0
            return True
        if self.spike == "rollback":
            return self._roll_back(optimizer, seen, what)
        self._tell(seen, what, self.spike)
        if self.spike == "warn":
            figures = ", ".join(f"{name} {value:.3g}" for name, value in seen.values().items())
            message = f"Guard: {what} at batch {seen.batch} ({figures})"
            warnings.warn(message, RuntimeWarning, stacklevel=4)
        if self.spike == "lower":
            self._lowered = self.lower_for
        return self.spike != "skip"

    def _roll_back(self, optimizer: Any, seen: Seen, what: str) -> bool:
        if self._in_a_row > 1 or self._broken_in_a_row > self.patience:
            self._snapshots.drop_newest()
        taken = self._snapshots.restore(optimizer, self._steps, self.snapshot_age)
        self._tell(seen, what, "skip" if taken is None else "rollback", back_to=taken)
        if taken is not None:
            self._steps, self._good, self._lowered = taken, 0, self.lower_for
        return False

    def _clip(self, seen: Seen) -> None:
        if self.clip is None:
            return
        scales = self._norms.limits(seen.norms, self.clip)
        if scales:
            rows = zip(seen.places, seen.gradients, strict=True)
            chosen = {place.ordinal: g for place, g in rows if place.ordinal in scales}
            for number, gradient in chosen.items():
                gradient.mul_(scales[number])
            least = min(scales.values())
            self._tell(seen, "large gradient", "clip", seen.named(scales), least_scale=least)

    @contextmanager
    def _slowed(self, optimizer: Any) -> Iterator[None]:
        """With the learning rates lowered, while they are to be."""
        if not self._lowered:
            yield
            return
        self._lowered -= 1
        rates = [group["lr"] for group in optimizer.param_groups]
        try:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * self.lower_by
            yield
        finally:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate

    def _learn(self, optimizer: Any, seen: Seen) -> None:
        """Remember a step that was made as what is usual, unless it was a spike."""
        if self.clip is not None:
            self._norms.add(seen.norms)
        if seen.worst > self.threshold:
            return
        self._in_a_row = 0
        if seen.loss is not None:
            self._losses.add(seen.loss)
        if seen.total:
            self._totals.add(seen.total)
        self._good += 1
        if self.spike == "rollback" and (self._good - 1) % self.snapshot_every == 0:
            self._snapshots.take(optimizer, self._steps)

    def _tell(
        self, seen: Seen, what: str, action: str, layers: Sequence[str] = (), **more: float | None
    ) -> None:
        values = {name: x for name, x in (seen.values() | more).items() if x is not None}
        named = tuple(layers) or seen.layers or seen.largest
        event = Event(self._steps, seen.batch, what, action, named, values)
        self.events.append(event)
        for listener in self.listeners:
            listener(event)

    def state_dict(self) -> dict[str, Any]:
        """What is usual so far, and the counts: for a run that goes on elsewhere. No snapshots."""
        counts = {name: getattr(self, name) for name in _COUNTS}
        windows = {"losses": self._losses.state(), "totals": self._totals.state()}
        return {"counts": counts, **windows, "norms": self._norms.state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        counts = {name: int(state["counts"][name]) for name in _COUNTS}
        self._losses.restore(state["losses"])
        self._totals.restore(state["totals"])
        self._norms.restore(state["norms"])
        self.__dict__.update(counts)


_COUNTS = ("_steps", "_batches", "_good", "_in_a_row", "_broken_in_a_row", "_lowered")
