"""Which kernel steps which parameter: kept between steps and checked anew in each."""

import functools
import math
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from meansquare.hyper import Hyper
from meansquare.kernels import Choice, choose, compiled, cpu, reference
from meansquare.kernels.checks import check_tensors, runs_foreign_code
from meansquare.kernels.memory import meet, merged, storages
from meansquare.kernels.places import Place, places_of
from meansquare.state import lacking

_DECLINED = "lies where the C++ kernel cannot step it: over its own gradient, state or another's"
_NO_LIST = "the params of a group are not in a list"
_SHARED = "shares memory with a tensor that is stepped by reference"
_FINE = -1
# The public function is Python around this one, and lets other threads run before a step writes.
_INCREMENT = getattr(torch._C, "_increment_version", torch.autograd.graph.increment_version)


class Plan:
    """The table of one optimizer's parameters; a step validates all of it, then writes."""

    def __init__(self, kind: type[Hyper]) -> None:
        self._kind = kind
        self._native: Any = None
        self._places: list[Place] = []
        self._fallbacks: list[Place] = []
        self._chosen: dict[int, Choice] = {}  # by what each parameter is
        self._choices: dict[int, Choice] = {}  # and by how they lie beside each other
        self._lying: dict[int, Any] = {}
        self._differentiable: list[bool] = []
        self._hypers: Sequence[Hyper] = ()
        self._set: list[Hyper | None] = []
        self._unscale = 1.0
        self._lock = threading.RLock()
        self._process = os.getpid()

    @property
    def is_whole(self) -> bool:
        """Whether the kernels step every parameter."""
        return self._native is not None and not self._fallbacks

    def step(
        self,
        groups: list[dict],
        state: dict,
        hypers: Sequence[Hyper],
        only: int | None = None,
        unscale: float = 1.0,
    ) -> None:
        """Step every parameter that has a gradient, or number `only` of them.

        Gradients are multiplied by `unscale` before anything else. The same `hypers` as in the last
        step, the very object, tell that no setting has changed but perhaps a learning rate. An
        error leaves all parameters as they were.
        """
        if self._process != os.getpid():
            self.__init__(self._kind)  # of a fork: another thread may have held the lock
        with self._lock:
            self._unscale = unscale
            self._step(groups, state, hypers, only)

    def _step(
        self, groups: list[dict], state: dict, hypers: Sequence[Hyper], only: int | None
    ) -> None:
        settled = self._takes(groups, hypers) and self._stands(groups, state, hypers)
        squares = self._squares_elsewhere(state, hypers) if settled else 0.0
        if not settled or not self._step_native(groups, state, squares, only):
            self._differentiable = [bool(group["differentiable"]) for group in groups]
            hypers = _with_rates(hypers, groups)
            self._build(groups, state, hypers)
            squares = self._squares_elsewhere(state, hypers)
            if self._native is not None and not self._step_native(groups, state, squares, only):
                raise RuntimeError("another thread changed parameters during the step")
        limited = any(hyper and hyper.max_grad_norm is not None for hyper in self._set)
        norm = math.sqrt(squares) * self._unscale
        norm = cpu.native.norm(self._native) if self._native and limited else norm
        for place in self._fallbacks:
            p = place.parameter
            if p.grad is not None and only in (None, place.ordinal):
                row = reference.Row(p, state[p], hypers[place.group], place.ordinal)
                with torch.set_grad_enabled(self._differentiable[place.group]):
                    reference.step(row, norm, self._unscale)

    def _takes(self, groups: list[dict], hypers: Sequence[Hyper]) -> bool:
        """Hand changed settings to the kernels; False where those ask for another table."""
        if self._native is None:
            return False
        if hypers is not self._hypers:
            if self._differentiable != [bool(group["differentiable"]) for group in groups]:
                return False
            if any(compiled.missing(hypers[i].rule) for i in self._fused_groups(len(hypers))):
                return False
            self._set_groups(hypers)
        return True

    def _fused_groups(self, count: int) -> set[int]:
        """Those of the first `count` groups of which the kernels step a parameter."""
        places = (place for place in self._places if self._choices[place.ordinal].kernel == "cpu")
        return {place.group for place in places if place.group < count}

    def _squares_elsewhere(self, state: dict, hypers: Sequence[Hyper]) -> float:
        """Of the gradients that the kernels do not see and whose norm is limited.

        What torch operations cannot compute raises here, before any kernel writes.
        """
        squares = 0.0
        for place in self._fallbacks:
            p, hyper = place.parameter, hypers[place.group]
            if p.grad is None:
                continue
            if hyper.max_grad_norm is not None:
                squares += reference.squares_of(p)
            if len(self._fallbacks) < len(self._places) and runs_foreign_code(p, hyper):
                with torch.no_grad():
                    row = reference.Row(p, state[p], hyper, place.ordinal)
                    reference.results(row, 0.0, self._unscale)
        return squares

    def _stands(self, groups: list[dict], state: dict, hypers: Sequence[Hyper]) -> bool:
        """Whether what the kernels do not take is as it was when the table was built."""
        if not self._fallbacks:
            return True
        present = dict(enumerate(p for group in groups for p in group["params"]))
        for place in self._fallbacks:
            p, differentiable = place.parameter, self._differentiable[place.group]
            if present.get(place.ordinal) is not p:
                return False
            if p.grad is None:
                continue
            rule = hypers[place.group].rule
            if choose(p, p.grad, differentiable, rule) != self._chosen[place.ordinal]:
                return False
            if self._lies(place, state) != self._lying[place.ordinal]:
                return False
            check_tensors(
                self._kind, p, state.get(p, {}), place.name, differentiable=differentiable
            )
            if lacking(p, state.get(p, {}), hypers[place.group]):
                return False
        self._fence(state)
        return True

    def _fence(self, state: dict) -> None:
        """Tell the kernels which memory is not theirs: a row that lies there is refused."""
        spans = set().union(*(storages(place.parameter, state) for place in self._fallbacks))
        cpu.native.set_elsewhere(self._native, merged(spans))

    def choices(self, groups: list[dict], hypers: Sequence[Hyper]) -> dict[Tensor, Choice]:
        """The kernel of each parameter: as in the last step, or as it will be in the first."""
        places = places_of(groups)
        known = {(id(place.parameter), place.ordinal) for place in self._places}
        return {
            (p := place.parameter): self._choices[place.ordinal]
            if (id(p), place.ordinal) in known
            else choose(
                p, None, bool(groups[place.group]["differentiable"]), hypers[place.group].rule
            )
            for place in places
        }

    def _step_native(
        self, groups: list[dict], state: dict, squares: float, only: int | None
    ) -> bool:
        """Step all rows of the kernels at once; False, and nothing written, where one refuses."""
        threads, row = torch.get_num_threads(), _FINE if only is None else only
        step = functools.partial(cpu.native.step, self._native, groups, state, threads)
        return _without_modes(lambda: step(_INCREMENT, squares, self._unscale, row)) == _FINE

    def _set_groups(self, hypers: Sequence[Hyper]) -> None:
        for i, hyper in enumerate(hypers[: len(self._set)]):
            if hyper is not self._set[i] and not compiled.missing(hyper.rule):
                self._set_group(i, hyper)
        self._hypers = hypers

    def _set_group(self, i: int, hyper: Hyper) -> None:
        norm, update = hyper.max_grad_norm, hyper.max_update
        cpu.native.set_group(
            self._native,
            i,
            hyper.rule.key,
            list(hyper.rule.buffers),
            hyper.seed,
            hyper.lr,
            math.inf if norm is None else norm,
            hyper.norm_eps,
            math.inf if update is None else update,
            list(hyper.numbers("float32").values()),
            list(hyper.numbers("float64").values()),
        )
        self._set[i] = hyper

    def _build(self, groups: list[dict], state: dict, hypers: Sequence[Hyper]) -> None:
        """Choose a kernel for every parameter and give it its state, after checking them all."""
        self._native, places = None, places_of(groups)
        active = [place for place in places if place.parameter.grad is not None]
        for place in active:
            p, differentiable = place.parameter, self._differentiable[place.group]
            check_tensors(
                self._kind, p, state.get(p, {}), place.name, differentiable=differentiable
            )
        chosen = {
            place.ordinal: choose(
                p := place.parameter,
                p.grad,
                self._differentiable[place.group],
                hypers[place.group].rule,
            )
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
        return p.data_ptr(), p.stride(), p.grad.dtype, len(storages(p, state))

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
        memory = {place.ordinal: storages(place.parameter, state) for place in self._places}
        while slow:
            taken = memory[slow.pop()]
            fused = [n for n in memory if self._choices[n].kernel == "cpu"]
            shared = [n for n in fused if meet(memory[n], taken)]
            self._choices |= dict.fromkeys(shared, Choice("reference", _SHARED))
            slow += shared


def _with_rates(hypers: Sequence[Hyper], groups: list[dict]) -> list[Hyper]:
    """With the learning rates of now, which only the kernels read anew in each step."""
    pairs = zip(hypers, groups, strict=True)
    return [h if h.lr == group["lr"] else replace(h, lr=float(group["lr"])) for h, group in pairs]


def _without_modes(call: Callable[[], int]) -> int:
    """Without `torch.device(...)` and its like, which have torch run Python at each `p.grad`."""
    if not torch._C._len_torch_function_stack():
        return call()
    with torch._C.DisableTorchFunction():
        return call()
