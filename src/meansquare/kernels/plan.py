"""Which kernel steps which parameter: kept between steps and checked anew in each."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor

from meansquare.kernels import Choice, choose, cpu, reference
from meansquare.rules import fold
from meansquare.spec import Hyper
from meansquare.state import STATE_DTYPES, fill_state

_DECLINED = "memory overlaps itself, its gradient or its state in a way the C++ kernel declines"
_FINE = -1


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
        self._choices: dict[int, Choice] = {}
        self._set: list[Hyper | None] = []
        self._settled = False

    def step(self, groups: list[dict], state: dict, hypers: Sequence[Hyper]) -> None:
        """Step every parameter that has a gradient. An error leaves all of them as they were."""
        if not self._settled or not self._native_is_ready(groups, state, hypers):
            self._build(groups, state, hypers)
        rows = [
            reference.Row(place.parameter, state[place.parameter], hypers[place.group], place.ordinal)
            for place in self._places
            if self._choices[place.ordinal].kernel == "reference"
            and place.parameter.grad is not None
        ]
        if self._native is not None:
            written = self._native.execute(torch.get_num_threads())
            torch.autograd.graph.increment_version(written)
        differentiable = any(group["differentiable"] for group in groups)
        with torch.set_grad_enabled(differentiable):
            for row in rows:
                reference.step(row)

    def choices(self, groups: list[dict]) -> dict[Tensor, Choice]:
        """The kernel of each parameter: as in the last step, or as it will be in the first."""
        places = list(_places(groups))
        if [place.parameter for place in places] != [place.parameter for place in self._places]:
            self._choices = {}
        return {
            place.parameter: self._choices.get(place.ordinal)
            or choose(place.parameter, None, groups[place.group]["differentiable"])
            for place in places
        }

    def _native_is_ready(self, groups: list[dict], state: dict, hypers: Sequence[Hyper]) -> bool:
        if self._native is None or len(hypers) != len(self._set):
            return False
        for i, hyper in enumerate(hypers):
            if hyper is not self._set[i]:
                self._set_group(i, hyper)
        return self._native.check(groups, state) == _FINE

    def _set_group(self, i: int, hyper: Hyper) -> None:
        spec = hyper.spec
        self._native.set_group(
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
        for place in places:
            if place.parameter.grad is not None:
                check_tensors(place, state.get(place.parameter, {}))
        self._places = places
        for place in places:
            if place.parameter.grad is not None:
                fill_state(place.parameter, state[place.parameter], hypers[place.group])
        self._choices = {
            place.ordinal: choose(p, p.grad, groups[place.group]["differentiable"])
            for place in places
            for p in (place.parameter,)
        }
        if cpu.native is not None:
            self._build_native(groups, state, hypers)
        # A choice that hung on a gradient is made anew in the next step.
        self._settled = cpu.native is not None and all(
            choice.kernel == "cpu" or choose(place.parameter, None, False).kernel != "cpu"
            for place, choice in zip(places, self._choices.values(), strict=True)
        )

    def _build_native(self, groups: list[dict], state: dict, hypers: Sequence[Hyper]) -> None:
        while True:
            table: list[list[tuple[Tensor, bool]]] = [[] for _ in groups]
            for place in self._places:
                fused = self._choices[place.ordinal].kernel == "cpu"
                table[place.group].append((place.parameter, fused))
            self._native = cpu.native.Plan(table)
            self._set = [None] * len(groups)
            if self._native_is_ready(groups, state, hypers):
                return
            refused = self._native.check(groups, state)
            self._choices[refused] = Choice("reference", _DECLINED)


def _places(groups: list[dict]):
    ordinal = 0
    for i, group in enumerate(groups):
        names = group.get("param_names") or [""] * len(group["params"])
        for j, p in enumerate(group["params"]):
            name = f"'{names[j]}'" if names[j] else f"{j} of group {i}"
            yield Place(i, p, ordinal, f"parameter {name}")
            ordinal += 1


def check_tensors(place: Place, state: dict[str, Any]) -> None:
    """Refuse a parameter, gradient or state that no kernel can step.

    Raises TypeError for a dtype or layout, ValueError for a shape or overlapping elements.
    """
    p, gradient = place.parameter, place.parameter.grad
    assert gradient is not None
    if p.dtype not in STATE_DTYPES:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in STATE_DTYPES)
        raise TypeError(f"RMSProp: dtype must be one of {names}, got {p.dtype} in {place.name}")
    if gradient.layout != torch.strided:
        raise TypeError(
            f"RMSProp: sparse gradients are not supported, got {gradient.layout} in {place.name}; "
            "use a dense gradient (for nn.Embedding, sparse=False)"
        )
    if gradient.is_complex() != p.is_complex():
        raise TypeError(f"RMSProp: got a gradient of {gradient.dtype} for {p.dtype} in {place.name}")
    if any(size > 1 and stride == 0 for size, stride in zip(p.shape, p.stride(), strict=True)):
        raise ValueError(
            f"RMSProp: {place.name} is expanded: several of its elements are one in memory; "
            "optimize the tensor it was expanded from"
        )
    for name, value in state.items():
        if isinstance(value, Tensor) and name != "step" and value.shape != p.shape:
            raise ValueError(
                f"RMSProp: state '{name}' must have the shape {tuple(p.shape)} of {place.name}, "
                f"got {tuple(value.shape)}"
            )
