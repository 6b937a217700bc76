"""An RMSProp's state and settings in one form, whoever wrote them."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from meansquare.dialects import DIALECTS, dialect_of, in_our_words, wrote
from meansquare.family import RMSPropHyper
from meansquare.state import parameter_names, step_count

Maker = Literal["meansquare", "torch", "timm", "sb3", "torch or sb3", "bitsandbytes", "another"]

_QUANTISED = "__bnb_optimizer_quant_state__"
_MAKERS: dict[str, Maker] = {
    "torch.optim.rmsprop.RMSprop": "torch",
    "timm.optim.rmsprop_tf.RMSpropTF": "timm",
    "stable_baselines3.common.sb2_compat.rmsprop_tf_like.RMSpropTFLike": "sb3",
    "bitsandbytes.optim.rmsprop.RMSprop": "bitsandbytes",
    "bitsandbytes.optim.rmsprop.RMSprop8bit": "bitsandbytes",
    "bitsandbytes.optim.rmsprop.RMSprop32bit": "bitsandbytes",
}


@dataclass(frozen=True)
class Held:
    """What is held for one parameter: its buffers as float64, and as what they are stored."""

    name: str
    step: float
    buffers: Mapping[str, Tensor]
    stored: Mapping[str, Tensor]
    shape: tuple[int, ...]

    def get(self, name: str) -> Tensor | None:
        return self.buffers.get(name)


@dataclass(frozen=True)
class Group:
    """A parameter group: its number, its settings as its maker has them, and what it holds."""

    number: int
    maker: Maker
    settings: Mapping[str, Any]
    hyper: RMSPropHyper | None
    """The settings in our words; None where the optimizer is no RMSProp."""
    held: tuple[Held, ...]
    names: bool
    """Whether its parameters have names."""

    @property
    def where(self) -> str:
        return f"group {self.number}"

    @property
    def step(self) -> float:
        """The fewest steps that a parameter of the group has had."""
        return min((held.step for held in self.held if held.stored), default=0.0)


@dataclass(frozen=True)
class Patient:
    """An optimizer as it is looked at."""

    groups: tuple[Group, ...]
    origin: str = field(default="state dict")

    @classmethod
    def of_optimizer(cls, opt: Optimizer) -> "Patient":
        kind = type(opt)
        groups = []
        for i, group in enumerate(opt.param_groups):
            states = [opt.state.get(p, {}) for p in group["params"]]
            maker = _MAKERS.get(f"{kind.__module__}.{kind.__qualname__}") or _maker(group, states)
            groups.append(_group(i, group, states, maker))
        return cls(tuple(groups), f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}")

    @classmethod
    def of_state_dict(cls, saved: Mapping[str, Any]) -> "Patient":
        groups = []
        for i, group in enumerate(saved["param_groups"]):
            states = [saved["state"].get(key, {}) for key in group["params"]]
            groups.append(_group(i, group, states, _maker(group, states)))
        return cls(tuple(groups))

    def each(self) -> Iterator[tuple[Group, Held]]:
        """Every parameter that has state, with its group."""
        for group in self.groups:
            yield from ((group, held) for held in group.held if held.stored)


def _maker(group: Mapping[str, Any], states: list[Mapping[Any, Any]]) -> Maker:
    """Who wrote this, by the names that are used."""
    used = {name for state in states for name in state.get(_QUANTISED, state)}
    if "betas" in group and "state1" in used and "state2" not in used:
        return "bitsandbytes"
    if "alpha" not in group or used - {"step", *RMSPropHyper.STATE}:
        return "another"
    if "eps_place" in group or "dialect" in group:
        return "meansquare"
    makers = wrote(group)
    return "torch or sb3" if len(makers) > 1 else makers[0]  # type: ignore[return-value]


def _group(
    i: int, group: Mapping[str, Any], states: list[Mapping[Any, Any]], maker: Maker
) -> Group:
    names = parameter_names(i, group)
    held = tuple(_held(name, state) for name, state in zip(names, states, strict=True))
    named = "param_names" in group
    return Group(i, maker, group, _hyper(i, group, maker), held, named)


def _hyper(i: int, group: Mapping[str, Any], maker: Maker) -> RMSPropHyper | None:
    if maker == "another":
        return None
    if maker == "bitsandbytes":
        own = {name: group[name] for name in ("lr", "eps", "weight_decay")}
        return DIALECTS["bitsandbytes"].hyper(**own, alpha=group["betas"][0])
    name = group.get("dialect", "torch") if maker == "meansquare" else maker.partition(" ")[0]
    row = dialect_of(name)
    settings = in_our_words(row, {**group, "params": None}, others=True)
    known = {name: settings[name] for name in RMSPropHyper.names() if name in settings}
    if known.get("reference_lr", 0.0) is None:
        del known["reference_lr"]
    return RMSPropHyper.checked(vars(row.hyper()) | known, "doctor", f" in group {i}")


def _held(name: str, state: Mapping[Any, Any]) -> Held:
    state = {**state, **state.get(_QUANTISED, {})}
    if "state1" in state:
        state = {**state, "square_avg": state["state1"]}
    stored = {
        key: value
        for key, value in state.items()
        if isinstance(key, str)
        and isinstance(value, Tensor)
        and value.numel() > 0
        and key != "step"
    }
    buffers = {
        key: _values(state, key, value)
        for key, value in stored.items()
        if key in RMSPropHyper.STATE and value.layout == torch.strided and not value.is_meta
    }
    step = step_count(state["step"], name) if "step" in state else 0.0
    shape = next((tuple(value.shape) for key, value in stored.items() if key in buffers), ())
    return Held(name, step, buffers, stored, shape)


def _values(state: Mapping[str, Any], key: str, value: Tensor) -> Tensor:
    """A buffer as float64; codes of bitsandbytes by their table and the largest of each block."""
    value = value.detach().cpu()
    if value.is_complex():
        value = torch.view_as_real(value.resolve_conj())
    if value.dtype != torch.uint8:
        return value.double()
    table, largest = (state[name].detach().cpu().double() for name in ("qmap1", "absmax1"))
    block = 2 ** math.ceil(math.log2(value.numel() / largest.numel()))
    sizes = largest.repeat_interleave(block)[: value.numel()]
    return (table[value.long().flatten()] * sizes).view(value.shape)


def divisor(hyper: RMSPropHyper, a: Tensor) -> Tensor:
    """What gradients are divided by, from the (centered) second moment `a`."""
    if hyper.spec.eps_place == "inside":
        return (a + hyper.eps).sqrt()
    if hyper.spec.eps_place == "outside":
        return a.sqrt() + hyper.eps
    return a.sqrt().clamp(min=hyper.eps)
