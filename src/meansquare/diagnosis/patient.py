"""An RMSProp's state and settings in one form, whoever wrote them."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from meansquare.dialects import dialect_of, in_our_words, wrote
from meansquare.family import RMSPropHyper
from meansquare.hyper import CHECKS
from meansquare.optimizers import RMSProp
from meansquare.parts import part
from meansquare.settings import shown
from meansquare.state import parameter_names, step_count

Maker = Literal["meansquare", "torch", "timm", "sb3", "torch or sb3", "bitsandbytes", "another"]

_QUANTISED = "__bnb_optimizer_quant_state__"
_OF_8_BITS = ("state1", "qmap1", "absmax1")
_MAKERS: dict[str, Maker] = {
    "torch.optim.rmsprop.RMSprop": "torch",
    "timm.optim.rmsprop_tf.RMSpropTF": "timm",
    "stable_baselines3.common.sb2_compat.rmsprop_tf_like.RMSpropTFLike": "sb3",
    "bitsandbytes.optim.rmsprop.RMSprop": "bitsandbytes",
    "bitsandbytes.optim.rmsprop.RMSprop8bit": "bitsandbytes",
    "bitsandbytes.optim.rmsprop.RMSprop32bit": "bitsandbytes",
}
_WRITERS: dict[tuple[str, ...], Maker] = {
    ("timm",): "timm",
    ("torch",): "torch",
    ("torch", "sb3"): "torch or sb3",
}


@dataclass(frozen=True, eq=False)
class Held:
    """What is held for one parameter: buffers as float64, and all tensors as they are stored."""

    name: str
    step: float
    buffers: Mapping[str, Tensor]
    stored: Mapping[str, Tensor]

    def get(self, name: str) -> Tensor | None:
        return self.buffers.get(name)

    @property
    def shape(self) -> tuple[int, ...]:
        return next((tuple(self.stored[name].shape) for name in self.buffers), ())


@dataclass(frozen=True, eq=False)
class Group:
    """A parameter group: its number, its settings as its maker has them, and what it holds.

    `hyper` are the settings in our words: None where the optimizer is no RMSProp, or where they are
    impossible, as `wrong` tells.
    """

    number: int
    maker: Maker
    settings: Mapping[str, Any]
    hyper: RMSPropHyper | None
    wrong: str
    held: tuple[Held, ...]

    @property
    def where(self) -> str:
        return f"group {self.number}"

    @property
    def has_names(self) -> bool:
        return "param_names" in self.settings

    @property
    def kept(self) -> list[Held]:
        """Of the parameters that have state."""
        return [held for held in self.held if held.stored]


@dataclass(frozen=True, eq=False)
class Patient:
    """An optimizer as it is looked at; `live` if it is one, and no state dict of one."""

    groups: tuple[Group, ...]
    live: bool

    @classmethod
    def of_optimizer(cls, opt: Optimizer) -> "Patient":
        maker = _maker_of_class(opt)
        groups = []
        for i, group in enumerate(opt.param_groups):
            states = [opt.state.get(p, {}) for p in group["params"]]
            groups.append(_group(i, group, states, maker))
        return cls(tuple(groups), live=True)

    @classmethod
    def of_state_dict(cls, saved: Mapping[str, Any]) -> "Patient":
        groups = []
        for i, group in enumerate(saved["param_groups"]):
            states = [saved["state"].get(key, {}) for key in group["params"]]
            groups.append(_group(i, group, states, _maker_of_dict(group, states)))
        return cls(tuple(groups), live=False)

    def each(self) -> Iterator[tuple[Group, Held]]:
        """Every parameter that has state, with its group."""
        for group in self.groups:
            yield from ((group, held) for held in group.kept)


def _maker_of_class(opt: Optimizer) -> Maker:
    if isinstance(opt, RMSProp):
        return "meansquare"
    for kind in type(opt).__mro__:
        if maker := _MAKERS.get(f"{kind.__module__}.{kind.__qualname__}"):
            return maker
    return "another"


def _maker_of_dict(group: Mapping[str, Any], states: list[Mapping[Any, Any]]) -> Maker:
    """Who wrote this, by the names that are used."""
    flat = [_flat(state) for state in states]
    used = {name for state in flat for name in state}
    if {"betas", "lr", "eps", "weight_decay"} <= group.keys() and "state1" in used:
        return "bitsandbytes" if _is_rmsprop_of_bitsandbytes(group, flat) else "another"
    if used - {"step", *RMSPropHyper.STATE}:
        return "another"
    if group.keys() >= {"alpha", "eps_place"}:
        return "meansquare"
    makers = wrote(group)
    if "dialect" in group or not makers:
        return "another"
    return _WRITERS[makers]


def _is_rmsprop_of_bitsandbytes(group: Mapping[str, Any], states: list[dict[str, Any]]) -> bool:
    """Its other optimizers of one state have negative ones, no eps, or what RMSprop has not."""
    alike = {"step", *_OF_8_BITS}
    for state in states:
        if not state.keys() <= alike:
            return False
        codes = state.get("state1")
        signed = (
            isinstance(codes, Tensor) and codes.dtype != torch.uint8 and bool((codes < 0).any())
        )
        if signed or (_is_quantised(state) and bool((_decoded(state) < 0).any())):
            return False
    first = [*group["betas"]][:1] if isinstance(group["betas"], (list, tuple)) else []
    return bool(group["eps"]) and first not in ([], [0])


def _group(
    i: int, group: Mapping[str, Any], states: list[Mapping[Any, Any]], maker: Maker
) -> Group:
    names = parameter_names(i, group)
    held = tuple(_held(name, state) for name, state in zip(names, states, strict=True))
    hyper, wrong = None, ""
    try:
        hyper = None if maker == "another" else _hyper(group, maker)
    except (KeyError, TypeError, ValueError) as error:
        wrong = f"no {error}" if isinstance(error, KeyError) else str(error)
    return Group(i, maker, group, hyper, wrong.removeprefix("settings: "), held)


def _hyper(group: Mapping[str, Any], maker: Maker) -> RMSPropHyper:
    if maker == "bitsandbytes":
        own = {name: group[name] for name in ("lr", "eps", "weight_decay")}
        own["alpha"], _ = CHECKS["betas"]("betas", group["betas"])
        return RMSPropHyper.checked(own, "settings")
    name = group.get("dialect", "torch") if maker == "meansquare" else maker.partition(" ")[0]
    row = dialect_of(name)
    settings = in_our_words(row, group, place="state")
    known = {name: settings[name] for name in RMSPropHyper.names() if name in settings}
    if known.get("reference_lr", 0.0) is None:
        del known["reference_lr"]
    return RMSPropHyper.checked(vars(row.hyper()) | known, "settings")


def _flat(state: Mapping[Any, Any]) -> dict[Any, Any]:
    """The state of a parameter without the box that bitsandbytes puts it in."""
    inner = state.get(_QUANTISED)
    outer = {name: value for name, value in state.items() if name != _QUANTISED}
    return {**outer, **inner} if isinstance(inner, Mapping) else dict(state)


def _held(name: str, state: Mapping[Any, Any]) -> Held:
    flat = _flat(state)
    stored = {
        key: part(value)
        for key, value in flat.items()
        if isinstance(key, str) and isinstance(value, Tensor) and key != "step"
    }
    if "state1" in stored:
        stored["square_avg"] = stored.pop("state1")
    buffers = {
        key: _decoded(flat) if value.dtype == torch.uint8 else _values(value)
        for key, value in stored.items()
        if key in RMSPropHyper.STATE and _can_be_read(key, value, flat)
    }
    step = flat.get("step")
    return Held(name, 0.0 if step is None else step_count(step, name), buffers, stored)


def _can_be_read(key: str, value: Tensor, state: Mapping[str, Any]) -> bool:
    dense = value.layout == torch.strided and not value.is_meta and not value.is_nested
    numbers = value.is_floating_point() or value.is_complex()
    return (
        dense and value.numel() > 0 and (numbers or (key == "square_avg" and _is_quantised(state)))
    )


def _values(value: Tensor) -> Tensor:
    value = value.detach().cpu()
    return (torch.view_as_real(value.resolve_conj()) if value.is_complex() else value).double()


def _is_quantised(state: Mapping[str, Any]) -> bool:
    """Whether it has 8-bit codes, their table and the largest number of each block of them."""
    codes, table, largest = (state.get(name) for name in _OF_8_BITS)
    return (
        isinstance(codes, Tensor)
        and isinstance(table, Tensor)
        and isinstance(largest, Tensor)
        and (codes.dtype, table.numel()) == (torch.uint8, 256)
        and 0 < largest.numel() <= codes.numel()
        and all(t.layout == torch.strided and not t.is_meta for t in (codes, table, largest))
    )


def _decoded(state: Mapping[str, Any]) -> Tensor:
    """8-bit codes by their table and the largest number of each block."""
    codes, table, largest = (state[name].detach().cpu() for name in _OF_8_BITS)
    block = 2 ** math.ceil(math.log2(codes.numel() / largest.numel()))
    sizes = largest.double().flatten().repeat_interleave(block)[: codes.numel()]
    if sizes.numel() < codes.numel():
        raise ValueError(f"8-bit state of {shown(codes)} has {largest.numel()} blocks, too few")
    return (table.double().flatten()[codes.long().flatten()] * sizes).view(codes.shape)


def divisor(hyper: RMSPropHyper, a: Tensor) -> Tensor:
    """What gradients are divided by, from the (corrected, centered) second moment `a`."""
    if hyper.spec.eps_place == "inside":
        return (a + hyper.eps).sqrt()
    if hyper.spec.eps_place == "outside":
        return a.sqrt() + hyper.eps
    return a.sqrt().clamp(min=hyper.eps)
