"""`watch`: what every step does, through torch's step hooks, without a change of training."""

import atexit
import time
import weakref
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from meansquare.kernels import cpu
from meansquare.settings import count, optional, shown, told_by
from meansquare.watching.lines import Look, Losses
from meansquare.watching.measuring import (
    Before,
    kinds,
    measured,
    number_of,
    numbers_of,
    reader,
    told,
)
from meansquare.watching.sharpness import Loss, Sharpness, sharpness
from meansquare.watching.sinks import Guarded, sinks_of

VERSION = 1  # of the file


def watch(
    optimizer: Optimizer,
    every: int = 50,
    to: Any = "watch.jsonl",
    *,
    model: nn.Module | None = None,
    sample: int | None = 4096,
) -> "Watcher":
    """Measure what an optimizer does to each parameter at every `every`-th step, and write it down.

    Of each parameter: quantiles of the effective learning rate lr/(sqrt(v)+eps), the share of
    weights where eps rules, the root mean squares of gradient and update, the update relative to
    the weights, the spike precursor sqrt(mean(g^2/v)), the shares that are dead and whose v is
    stale, and how many numbers are not finite. Works with every torch.optim.Optimizer; where it
    keeps no second moment, what needs one is None. Training stays as it is, bit for bit.

    Args:
        optimizer: the optimizer, at any point of its training
        every: steps from one look to the next
        to: a path of JSON lines (of a name that is taken the next free one: watch-2.jsonl),
            `"tensorboard:FOLDER"`, a SummaryWriter, a function of a dict, or a list of these. Looks
            are written to a file once a second at most, events at once. A sink that fails never
            stops training: a warning, and a count in `watcher.dropped`
        model: gives the parameters their names, where the optimizer has none
        sample: at most so many weights of a tensor are measured, evenly spread (None: all); numbers
            that are not finite are found in all of them

    Gradients are as backward left them: unscaled, not clipped. Of a DTensor this rank's part is
    measured, and ranks after the first write to files of their own.

    Raises TypeError and ValueError for arguments of another kind or out of range, RuntimeError
    where TensorBoard is asked for and not installed.

    >>> p = nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> optimizer = torch.optim.RMSprop([p], lr=0.01)
    >>> with watch(optimizer, every=1, to=print):
    ...     pass
    {'format': 'meansquare-watch', 'version': 1, 'optimizer': 'RMSprop', ...
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"watch: optimizer must be a torch.optim.Optimizer, got {shown(optimizer)}")
    with told_by("watch"):
        count("every", every)
        optional(count)("sample", sample)
    return Watcher(optimizer, every, to, model, sample)


class Watcher:
    """A watched optimizer; made by `watch`. `path` is the file of JSON lines, if there is one."""

    def __init__(
        self, optimizer: Optimizer, every: int, to: Any, model: nn.Module | None, sample: int | None
    ) -> None:
        sinks, self.path = sinks_of(to)
        self._sinks = Guarded(sinks)
        self._end = weakref.finalize(self, self._sinks.close)
        self._end.atexit = False  # then `remove` has its turn
        self._every, self._sample = every, sample
        self._optimizer = weakref.ref(optimizer)  # a hook that holds it would keep it alive
        self._counted = 0
        self._losses: list[Any] = []
        self._read = reader()
        self._before: Before | None = None
        self._began = time.perf_counter()
        self._names = _names(optimizer, model)
        self._params = [*self._names]
        self._kinds = kinds()
        self._after = optimizer.register_step_post_hook(self._after_step)
        before_step, self._steps = _counting(self._prepare)
        self._handles = [optimizer.register_step_pre_hook(before_step), self._after]
        self._guard = getattr(optimizer, "guard", None)
        if self._guard is not None:
            self._guard.listeners.append(self._tell_event)
        self._sinks(self._header(optimizer))
        self._at_exit = partial(_call, weakref.WeakMethod(self.remove))
        atexit.register(self._at_exit)

    @property
    def dropped(self) -> int:
        """How many lines could not be written."""
        return self._sinks.dropped

    def loss(self, value: Tensor | float) -> None:
        """Tell the loss of a step, once for each step; it is read when it is written."""
        number = self._read(value)  # by no more calls than need be, since it is in every step
        self._losses.append(number_of(value) if number is None else number)

    def event(self, what: str, action: str = "", layers: Any = (), **values: float) -> None:
        """Write that something happened at this step."""
        line = {"kind": "event", "step": self._step, "batch": self._step, "what": what}
        self._sinks({**line, "action": action, "layers": list(layers), "values": values})

    def sharpness(self, loss: Loss, products: int = 20) -> Sharpness:
        """How near the edge of stability training is (see `meansquare.watching.sharpness`)."""
        found = sharpness(self._require(), loss, products)
        line = {"sharpness": found.sharpness, "limit": found.limit, "edge": found.edge}
        self._sinks({"kind": "sharpness", "step": self._step, **line})
        return found

    def remove(self) -> None:
        """End it: the hooks are taken off and what is held is written."""
        if not self._handles:
            return
        for handle in self._handles:
            handle.remove()
        self._handles = []
        if self._guard is not None:
            self._guard.listeners.remove(self._tell_event)
        self._write_losses()
        self._end()
        atexit.unregister(self._at_exit)

    def __enter__(self) -> "Watcher":
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _require(self) -> Optimizer:
        optimizer = self._optimizer()
        if optimizer is None:
            raise RuntimeError("watch: its optimizer is gone")
        return optimizer

    def _header(self, optimizer: Optimizer) -> dict[str, Any]:
        tensors = [
            {"name": self._names[p], "shape": list(p.shape), "group": i}
            for i, group in enumerate(optimizer.param_groups)
            for p in group["params"]
        ]
        return {
            "format": "meansquare-watch",
            "version": VERSION,
            "optimizer": type(optimizer).__name__,
            "every": self._every,
            "sample": self._sample,
            "tensors": tensors,
            "made_by": {"meansquare": _version(), "torch": str(torch.__version__)},
        }

    @property
    def _step(self) -> int:
        return self._steps()

    def _prepare(self, optimizer: Optimizer, step: int) -> int:
        """The hook after a step is on while that is to be looked at, since it costs as well; the
        step before which there is something to do again.
        """
        hooks: Any = optimizer._optimizer_step_post_hooks
        past = step % self._every
        if past > 0:
            hooks.pop(self._after.id, None)
            return step + self._every - past
        self._before = Before(optimizer, self._sample)
        hooks[self._after.id] = self._after_step
        # Before the others, which may set back what the step had (Prodigy does its rate).
        hooks.move_to_end(self._after.id, last=False)
        return step + 1

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        before, self._before = self._before, None
        if before is None:
            return
        self._write_losses()
        numbers = measured(optimizer, before, self._kinds)
        seconds = time.perf_counter() - self._began
        rates = tuple([float(group["lr"]) for group in optimizer.param_groups])
        if not isinstance(numbers, list) and cpu.native.are_those(before.held, self._params):
            self._sinks(Look(self._steps(), seconds, rates, numbers))
            return
        places = dict(zip((id(p) for _, p in before.rows), told(numbers), strict=True))
        line = {"kind": "look", "step": self._step, "seconds": seconds, "lr": [*rates]}
        self._sinks({**line, "tensors": [places.get(id(p)) for p in self._params]})

    def _write_losses(self) -> None:
        if self._losses:
            values = numbers_of(self._losses)
            self._sinks(Losses(self._counted + 1, values))
            self._counted += len(values)
            self._losses = []

    def _tell_event(self, event: Any) -> None:
        """Write what the optimizer's guard did; the step is the one that this watcher counts."""
        self._sinks({"kind": "event", "step": self._step, **event.told()})


def _counting(prepare: Callable[[Optimizer, int], int]) -> tuple[Any, Callable[[], int]]:
    """A hook that counts steps, and calls `prepare` before that which it named; and their number.
    It has no object, whose attributes would have to come from memory in every step, and counts
    down, which makes no new number.
    """
    due, left = 1, 1

    def hook(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        nonlocal due, left
        left -= 1
        if left <= 0:
            step = due - left
            due = prepare(optimizer, step)
            left = due - step

    return hook, lambda: due - left


def _names(optimizer: Optimizer, model: nn.Module | None) -> dict[Tensor, str]:
    known = {p: name for name, p in model.named_parameters()} if model else {}
    names = {}
    for i, group in enumerate(optimizer.param_groups):
        own = group.get("param_names") or [f"{i}.{j}" for j in range(len(group["params"]))]
        for p, name in zip(group["params"], own, strict=True):
            names[p] = known.get(p, name)
    return names


def _version() -> str | None:
    try:
        return version("meansquare")
    except PackageNotFoundError:
        return None


def _call(method: "weakref.WeakMethod[Any]") -> None:
    if (end := method()) is not None:
        end()
