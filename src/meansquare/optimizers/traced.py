"""What torch.compile sees of an optimizer: tensors in lists, and operators that step them.

Dynamo specialises a graph on every number that it reads in `param_groups`, so it is given none to
read: the operators read them when the graph runs.
"""

import itertools
from typing import Any

import torch
from torch import Tensor
from torch._guards import TracingContext

from meansquare.hyper import MOST_NUMBERS, Hyper
from meansquare.kernels.plan import Plan
from meansquare.kernels.ranks import spread

_numbers = itertools.count(1)


class Traced:
    """Of one optimizer. `params` are those of all groups, `states` the very dicts of its state, and
    `rates` those learning rates that are tensors.
    """

    params: list[Tensor]
    states: list[dict[str, Any]]
    sizes: list[int]
    rates: list[Tensor]
    written: Tensor  # the settings of the last step, made of these
    hypers: list[Hyper] | None = None
    values: list[float]
    otherwise = False  # a group asks for what no graph can hold; guarded by those that there are

    def __init__(self, kind: type[Hyper]) -> None:
        self.plan = Plan(kind)
        self.number = next(_numbers)

    def fill(self, opt: Any) -> None:
        """Fill the lists with what the optimizer has."""
        groups = opt.param_groups
        self.params = opt._parameters()
        self.states = [opt.state.get(p, {}) for p in self.params]
        self.sizes = [len(group["params"]) for group in groups]
        self.rates = [group["lr"] for group in groups if isinstance(group["lr"], Tensor)]
        self.otherwise = any(map(runs_otherwise, groups))
        self.hypers = None

    def prepare(self, opt: Any) -> bool:
        """Give every parameter with a gradient the state of its first step; whether a graph can
        hold the step.
        """
        from meansquare.kernels.operator import OPTIMIZERS  # registers the operators

        OPTIMIZERS[self.number] = opt
        fits = _fits(opt)
        if fits:
            opt._prepare([p for p in opt._parameters() if p.grad is not None])
        self.fill(opt)
        return fits

    def is_of(self, opt: Any) -> bool:
        """Whether the lists are still those of the optimizer."""
        present = opt._parameters()
        if len(present) != len(self.params) or any(map(runs_otherwise, opt.param_groups)):
            return False
        rows = zip(present, self.params, self.states, strict=True)
        return all(p is q and (not own or opt.state.get(p) is own) for p, q, own in rows)


def runs_otherwise(group: dict[str, Any]) -> bool:
    return bool(group["differentiable"] or group["rank_local"])


def _fits(opt: Any) -> bool:
    """Whether a step can be in a graph: neither autograd nor other ranks have to follow it,
    Inductor has operators of its tensors, none of which lies in another's memory, and the graph
    has not written settings, since it would do that at its end.
    """
    groups, params = opt.param_groups, opt._parameters()
    if spread(groups) or any(map(runs_otherwise, groups)) or _writes([groups, *groups]):
        return False
    full = [p for p in params if p.numel()]
    apart = len({p.untyped_storage().data_ptr() for p in full}) == len(full)
    has_room = all(len(hyper.rule.numbers) <= MOST_NUMBERS for hyper in opt._checked_groups())
    return apart and has_room and not any(p.is_complex() for p in params)


def _writes(things: list[Any]) -> bool:
    """Whether the graph that is being made has written to one of these."""
    if TracingContext.try_get() is None:
        return False
    from torch._dynamo.symbolic_convert import InstructionTranslator

    effects = InstructionTranslator.current_tx().output.side_effects
    known = [effects.id_to_variable.get(id(thing)) for thing in things]
    return any(effects.is_modified(variable) for variable in known if variable is not None)


def step(traced: Traced) -> None:
    """One step, as a graph has it."""
    params, gradients, state, names, ordinals = [], [], [], [], []
    for ordinal, p in enumerate(traced.params):
        if p.grad is not None:
            params.append(p)
            gradients.append(p.grad)
            ordinals.append(ordinal)
            names += ["step", *(name for name in traced.states[ordinal] if name != "step")]
            state.append(traced.states[ordinal]["step"])
            state += [value for name, value in traced.states[ordinal].items() if name != "step"]
    if params:
        with torch.no_grad():
            settings = torch.ops.meansquare.settings(
                traced.number, len(traced.sizes), list(traced.rates)
            )
            where = (",".join(names), ordinals, traced.sizes, settings, traced.number)
            torch.ops.meansquare.step(params, gradients, state, *where)
