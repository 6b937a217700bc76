"""Which kernel steps which parameter: kept between steps and checked anew in each."""

import functools
import itertools
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor

from meansquare.kernels import Choice, choose, cpu, reference
from meansquare.kernels.checks import check_tensors
from meansquare.rules import fold
from meansquare.spec import Hyper
from meansquare.state import lacking, parameter_names

_DECLINED = "lies where the C++ kernel cannot step it: over its own gradient, state or another's"
_NO_LIST = "the params of a group are not in a list"
_SHARED = "shares memory with a tensor that is stepped by reference"
_FINE = -1
# The public function is Python around this one, and lets other threads run before a step writes.
_INCREMENT = getattr(torch._C, "_increment_version", torch.autograd.graph.increment_version)


@dataclass(frozen=True)
class Place:
    """A parameter among all: its group, its place there, its number and its name."""

    group: int
    parameter: Tensor
    ordinal: int
    name: str


class Plan:
    """The table of one optimizer's parameters; a step validates all of it, then writes."""

    def __init__(self) -> None:
        self._native: Any = None
        self._places: list[Place] = []
        self._fallbacks: list[Place] = []
        self._chosen: dict[int, Choice] = {}  # by what each parameter is
        self._choices: dict[int, Choice] = {}  # and by how they lie beside each other
        self._lying: dict[int, Any] = {}
        self._differentiable: list[bool] = []
        self._set: list[Hyper | None] = []
        self._lock = threading.RLock()
        self._process = os.getpid()

    def step(self, groups: list[dict], state: dict, hypers: Sequence[Hyper]) -> None:
        """Step every parameter that has a gradient. An error leaves all of them as they were."""
        if self._process != os.getpid():
            self.__init__()  # of a fork: another thread may have held the lock, and it is not here
        with self._lock:
            self._step(groups, state, hypers)

    def _step(self, groups: list[dict], state: dict, hypers: Sequence[Hyper]) -> None:
        differentiable = [bool(group["differentiable"]) for group in groups]
        settled = differentiable == self._differentiable and self._stands(groups, state, hypers)
        if not settled or not self._step_native(groups, state, hypers):
            self._differentiable = differentiable
            self._build(groups, state, hypers)
            if self._native is not None and not self._step_native(groups, state, hypers):
                raise RuntimeError("RMSProp: another thread changed parameters during the step")
        for place in self._fallbacks:
            p = place.parameter
            if p.grad is not None:
                row = reference.Row(p, state[p], hypers[place.group], place.ordinal)
                with torch.set_grad_enabled(differentiable[place.group]):
                    reference.step(row)

    def _stands(self, groups: list[dict], state: dict, hypers: Sequence[Hyper]) -> bool:
        """Whether what the kernels do not take is as it was when the table was built."""
        if self._native is None or not self._fallbacks:
            return self._native is not None
        present = dict(enumerate(p for group in groups for p in group["params"]))
        for place in self._fallbacks:
            p, differentiable = place.parameter, self._differentiable[place.group]
            if present.get(place.ordinal) is not p:
                return False
            if p.grad is None:
                continue
            if choose(p, p.grad, differentiable) != self._chosen[place.ordinal]:
                return False
            if self._lies(place, state) != self._lying[place.ordinal]:
                return False
            check_tensors(p, state.get(p, {}), place.name, differentiable=differentiable)
            if lacking(p, state.get(p, {}), hypers[place.group]):
                return False
        self._fence(state)
        return True

    def _fence(self, state: dict) -> None:
        """Tell the kernels which memory is not theirs: a row that lies there is refused."""
        spans = set().union(*(_storages(place.parameter, state) for place in self._fallbacks))
        cpu.native.set_elsewhere(self._native, _merged(spans))

    def choices(self, groups: list[dict]) -> dict[Tensor, Choice]:
        """The kernel of each parameter: as in the last step, or as it will be in the first."""
        places = list(_places(groups))
        known = {(id(place.parameter), place.ordinal) for place in self._places}
        return {
            (p := place.parameter): self._choices[place.ordinal]
            if (id(p), place.ordinal) in known
            else choose(p, None, bool(groups[place.group]["differentiable"]))
            for place in places
        }

    def _step_native(self, groups: list[dict], state: dict, hypers: Sequence[Hyper]) -> bool:
        """Step all rows of the kernels at once; False, and nothing written, where one refuses."""
        self._set_groups(hypers)
        threads = torch.get_num_threads()
        step = functools.partial(cpu.native.step, self._native, groups, state, threads, _INCREMENT)
        return _without_modes(step) == _FINE

    def _set_groups(self, hypers: Sequence[Hyper]) -> None:
        for i, hyper in enumerate(hypers[: len(self._set)]):
            if hyper is not self._set[i]:
                self._set_group(i, hyper)

    def _set_group(self, i: int, hyper: Hyper) -> None:
        spec = hyper.spec
        cpu.native.set_group(
            self._native,
            i,
            spec.key,
            spec.centered,
            spec.momentum != "none",
            hyper.bias_correction,
            hyper.seed,
            hyper.alpha,
            astuple(fold(hyper, 1, "float32")),
            astuple(fold(hyper, 1, "float64")),
        )
        self._set[i] = hyper

    def _build(self, groups: list[dict], state: dict, hypers: Sequence[Hyper]) -> None:
        """Choose a kernel for every parameter and give it its state, after checking them all."""
        self._native, places = None, list(_places(groups))
        active = [place for place in places if place.parameter.grad is not None]
        for place in active:
            p, differentiable = place.parameter, self._differentiable[place.group]
            check_tensors(p, state.get(p, {}), place.name, differentiable=differentiable)
        chosen = {
            place.ordinal: choose(p := place.parameter, p.grad, self._differentiable[place.group])
            for place in places
        }
        with torch.inference_mode(False):
            new = [
                (p := place.parameter, lacking(p, state.get(p, {}), hypers[place.group]))
                for place in active
            ]
        for p, values in new:
            state[p] |= values  # at once: another thread may be saving it
        self._places, self._chosen, self._choices = places, chosen, dict(chosen)
        if cpu.native is not None:
            self._build_native(groups, state, hypers)
        self._fallbacks = [
            place for place in places if self._choices[place.ordinal].kernel != "cpu"
        ]
        self._lying = {place.ordinal: self._lies(place, state) for place in self._fallbacks}
        if self._native is not None:
            self._fence(state)

    def _lies(self, place: Place, state: dict) -> Any:
        """What may change for the kernels to take a row that they declined as it lay."""
        p = place.parameter
        if p.grad is None or self._chosen[place.ordinal].kernel != "cpu":
            return None
        return p.data_ptr(), p.stride(), p.grad.dtype, len(_storages(p, state))

    def _build_native(self, groups: list[dict], state: dict, hypers: Sequence[Hyper]) -> None:
        while True:
            self._spread_reference(state)
            table: list[list[tuple[Tensor, bool]]] = [[] for _ in groups]
            for place in self._places:
                fused = self._choices[place.ordinal].kernel == "cpu"
                table[place.group].append((place.parameter, fused))
            self._native = cpu.native.Plan(table)
            self._set = [None] * len(groups)
            self._set_groups(hypers)
            refused = _without_modes(lambda: cpu.native.check(self._native, groups, state))
            if refused == _FINE:
                return
            if refused < 0:
                self._choices = dict.fromkeys(self._choices, Choice("reference", _NO_LIST))
                self._native = None
                return
            self._choices[refused] = Choice("reference", _DECLINED)

    def _spread_reference(self, state: dict) -> None:
        """Step by reference, in turn, also whatever shares memory with what goes there already."""
        slow = [n for n, choice in self._choices.items() if choice.kernel == "reference"]
        if not slow or len(slow) == len(self._choices):
            return
        memory = {place.ordinal: _storages(place.parameter, state) for place in self._places}
        while slow:
            taken = memory[slow.pop()]
            fused = [n for n in memory if self._choices[n].kernel == "cpu"]
            shared = [n for n in fused if _meet(memory[n], taken)]
            self._choices |= dict.fromkeys(shared, Choice("reference", _SHARED))
            slow += shared


def _places(groups: list[dict]) -> Iterator[Place]:
    ordinal = itertools.count()
    for i, group in enumerate(groups):
        for p, name in zip(group["params"], parameter_names(i, group), strict=True):
            yield Place(i, p, next(ordinal), name)


def _without_modes(call: Callable[[], int]) -> int:
    """Without `torch.device(...)` and its like, which have torch run Python at each `p.grad`."""
    if not torch._C._len_torch_function_stack():
        return call()
    with torch._C.DisableTorchFunction():
        return call()


Span = tuple[int, int]  # from where to where in memory


def _meet(some: set[Span], others: set[Span]) -> bool:
    return any(a[0] < b[1] and b[0] < a[1] for a in some for b in others)


def _merged(spans: set[Span]) -> list[Span]:
    """The same memory in rising order, none of it twice."""
    merged: list[Span] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            begin, end = merged[-1][0], max(merged.pop()[1], end)
        merged.append((begin, end))
    return merged


def _storages(p: Tensor, state: Mapping[Tensor, dict]) -> set[Span]:
    """From where to where the storages lie that a step of `p` touches (none without a gradient)."""
    if p.grad is None:
        return set()
    held = [t for t in (p, p.grad, *state[p].values()) if isinstance(t, Tensor)]
    try:
        storages = [t.untyped_storage() for t in held if t.device.type == "cpu"]
        return {(s.data_ptr(), s.data_ptr() + s.nbytes()) for s in storages if s.nbytes()}
    except RuntimeError:  # of a subclass without storage
        return set()
