"""Which kernel steps which parameter: kept between steps and checked anew in each."""

import math
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from meansquare.hyper import Hyper
from meansquare.kernels import Choice, choose, compiled, cpu, ranks, reference
from meansquare.kernels.checks import check_tensors, runs_foreign_code
from meansquare.kernels.memory import Span, meet, merged, storages
from meansquare.kernels.places import Place, places_of
from meansquare.kernels.reference import Scales
from meansquare.kernels.request import ALL, Request, with_rates, without_modes
from meansquare.kernels.sums import NO_SUMS, Sums, sums_here, sums_over_ranks
from meansquare.parts import is_distributed, part, place_of
from meansquare.state import lacking

_DECLINED = "lies where the C++ kernel cannot step it: over its own gradient, state or another's"
_NO_LIST = "the params of a group are not in a list"
_SHARED = "shares memory with a tensor that is stepped by reference"
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
        self._run_as: list[tuple[bool, bool]] = []
        self._is_distributed = False  # whether a parameter is
        self._is_spread = False  # whether sums are taken over ranks
        self._hypers: Sequence[Hyper] = ()
        self._set: list[Hyper | None] = []
        self._lock = threading.RLock()
        self._process = os.getpid()

    @property
    def is_whole(self) -> bool:
        """Whether the kernels step every parameter."""
        return self._native is not None and not self._fallbacks

    def step(self, request: Request) -> None:
        """Step what is asked for.

        The same `hypers` as in the last step, the very object, tell that no setting has changed but
        perhaps a learning rate. An error leaves all parameters as they were.
        """
        if self._process != os.getpid():
            self.__init__(self._kind)  # of a fork: another thread may have held the lock
        with self._lock:
            self._step(request)

    def _step(self, request: Request) -> None:
        if self._is_distributed:
            request = request.with_parts()
        settled = self._takes(request) and self._stands(request)
        sums = self._sums(request) if settled else None
        if sums is None or not self._step_native(request, sums):
            request = replace(request, hypers=with_rates(request.hypers, request.groups))
            request = self._build(request)
            sums = self._sums(request)
            if sums is None or (self._native and not self._step_native(request, sums)):
                raise RuntimeError("another thread changed parameters during the step")
        if self._fallbacks:
            self._step_elsewhere(request, sums)

    def _step_elsewhere(self, request: Request, sums: Sums) -> None:
        """Step by torch operations what the kernels do not take."""
        limited = any(hyper and hyper.max_grad_norm is not None for hyper in self._set)
        norm = cpu.native.norm(self._native) if self._native and limited else sums.norm(request)
        for place in self._fallbacks:
            if request.takes(place):
                scales = Scales(request.unscale, norm, sums.measured.get(place.ordinal))
                follows = request.is_differentiable(place)
                with torch.set_grad_enabled(follows):
                    reference.step(request.row(place, as_part=not follows), scales)
                if is_distributed(place.parameter):
                    _INCREMENT([place.parameter])

    def _sums(self, request: Request) -> Sums | None:
        """What is summed before a kernel writes; None where one refuses a row.

        What torch operations cannot compute raises here.
        """
        if not self._fallbacks and not self._is_spread:
            return NO_SUMS
        if self._is_spread:
            sums = sums_over_ranks(self._native, request, self._places, self._fallbacks)
        else:
            sums = sums_here(request, self._fallbacks)
        if len(self._fallbacks) < len(self._places):
            for place in filter(request.takes, self._fallbacks):
                row = request.row(place)
                if runs_foreign_code(place.parameter, row.gradient, row.hyper):
                    with torch.no_grad():
                        reference.results(row, Scales(request.unscale))
        return sums

    def _takes(self, request: Request) -> bool:
        """Hand changed settings to the kernels; False where those ask for another table."""
        hypers = request.hypers
        if self._native is None:
            return False
        if hypers is not self._hypers:
            if self._run_as != _run_as(request.groups):
                return False
            if any(compiled.missing(hypers[i].rule) for i in self._fused_groups(len(hypers))):
                return False
            self._set_groups(hypers)
        return True

    def _fused_groups(self, count: int) -> set[int]:
        """Those of the first `count` groups of which the kernels step a parameter."""
        places = (place for place in self._places if self._choices[place.ordinal].kernel == "cpu")
        return {place.group for place in places if place.group < count}

    def _stands(self, request: Request) -> bool:
        """Whether what the kernels do not take is as it was when the table was built."""
        if not self._fallbacks:
            return True
        present = dict(enumerate(p for group in request.groups for p in group["params"]))
        for place in self._fallbacks:
            p, g = place.parameter, request.gradient(place)
            if present.get(place.ordinal) is not p:
                return False
            if g is None:
                continue
            if _choice(request, place) != self._chosen[place.ordinal]:
                return False
            if self._lies(request, place) != self._lying[place.ordinal]:
                return False
            own = request.state.get(p, {})
            check_tensors(self._kind, p, g, own, place.name, request.is_differentiable(place))
            if lacking(p, own, request.hypers[place.group]):
                return False
        self._fence(request)
        return True

    def _fence(self, request: Request) -> None:
        """Tell the kernels which memory is not theirs: a row that lies there is refused."""
        spans = set().union(*(_storages(request, place) for place in self._fallbacks))
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

    def _step_native(self, request: Request, sums: Sums) -> bool:
        """Step all rows of the kernels at once; False, and nothing written, where one refuses."""
        what = (self._native, request.groups, request.state, torch.get_num_threads(), _INCREMENT)
        measured = sums.by_number(len(self._places))
        how = (sums.squares, sums.are_all, request.unscale, request.row_number, measured)
        return without_modes(cpu.native.step, *what, request.gradients, *how) == ALL

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

    def _build(self, request: Request) -> Request:
        """Choose a kernel for every parameter and give it its state, after checking them all.

        Returns the request with the gradients that these kernels take.
        """
        self._native, places, state = None, places_of(request.groups), request.state
        self._is_distributed = any(is_distributed(place.parameter) for place in places)
        request = request.with_parts() if self._is_distributed else request
        self._run_as, self._is_spread = _run_as(request.groups), ranks.spread(request.groups)
        if self._is_spread:
            limited = [p for p in places if request.hypers[p.group].max_grad_norm is not None]
            ranks.check_meshes(limited, request.groups)
        active = [(place, g) for place in places if (g := request.gradient(place)) is not None]
        for place, g in active:
            p, differentiable = place.parameter, request.is_differentiable(place)
            check_tensors(self._kind, p, g, state.get(p, {}), place.name, differentiable)
        chosen = {place.ordinal: _choice(request, place) for place in places}
        with torch.inference_mode(False):
            new = [
                (p := place.parameter, lacking(p, state.get(p, {}), request.hypers[place.group]))
                for place, _ in active
            ]
        for p, values in new:
            state[p] |= values  # at once: another thread may be saving it
        self._places, self._chosen, self._choices = places, chosen, dict(chosen)
        if cpu.native is not None:
            self._build_native(request)
        self._fallbacks = [
            place for place in places if self._choices[place.ordinal].kernel != "cpu"
        ]
        self._lying = {place.ordinal: self._lies(request, place) for place in self._fallbacks}
        if self._native is not None:
            self._fence(request)
        return request

    def _lies(self, request: Request, place: Place) -> Any:
        """What may change for the kernels to take a row that they declined as it lay."""
        p, g = place.parameter, request.gradient(place)
        if g is None or self._chosen[place.ordinal].kernel != "cpu":
            return None
        return part(p).data_ptr(), p.stride(), g.dtype, len(_storages(request, place))

    def _build_native(self, request: Request) -> None:
        while True:
            self._spread_reference(request)
            table: list[list[tuple[Tensor, bool]]] = [[] for _ in request.groups]
            for place in self._places:
                fused = self._choices[place.ordinal].kernel == "cpu"
                table[place.group].append((place.parameter, fused))
            self._native = cpu.native.Plan(table)
            self._set_parts()
            self._set = [None] * len(request.groups)
            self._set_groups(request.hypers)
            what = (self._native, request.groups, request.state, request.gradients)
            refused = without_modes(cpu.native.check, *what)
            if refused == ALL:
                return
            if refused < 0:
                self._choices = dict.fromkeys(self._choices, Choice("reference", _NO_LIST))
                self._native = None
                return
            self._choices[refused] = Choice("reference", _DECLINED)

    def _set_parts(self) -> None:
        for place in self._places:
            if whole := place_of(place.parameter):
                cpu.know_distributed()
                levels = list(whole.levels)
                cpu.native.set_part(self._native, place.ordinal, whole.whole, whole.first, levels)

    def _spread_reference(self, request: Request) -> None:
        """Step by reference, in turn, also whatever shares memory with what goes there already."""
        slow = [n for n, choice in self._choices.items() if choice.kernel == "reference"]
        if not slow or len(slow) == len(self._choices):
            return
        memory = {place.ordinal: _storages(request, place) for place in self._places}
        while slow:
            taken = memory[slow.pop()]
            fused = [n for n in memory if self._choices[n].kernel == "cpu"]
            shared = [n for n in fused if meet(memory[n], taken)]
            self._choices |= dict.fromkeys(shared, Choice("reference", _SHARED))
            slow += shared


def _run_as(groups: Sequence[Mapping[str, Any]]) -> list[tuple[bool, bool]]:
    """What each group says of how its parameters are stepped."""
    return [(bool(group["differentiable"]), bool(group.get("rank_local"))) for group in groups]


def _choice(request: Request, place: Place) -> Choice:
    rule = request.hypers[place.group].rule
    differentiable = request.is_differentiable(place)
    return choose(place.parameter, request.gradient(place), differentiable, rule)


def _storages(request: Request, place: Place) -> set[Span]:
    """The memory that a step of a parameter touches: none without a gradient."""
    p, g = place.parameter, request.gradient(place)
    return set() if g is None else storages([p, g, *request.state[p].values()])
