"""What torch.compile sees of an optimizer: tensors in lists, and operators that step them.

Dynamo specialises a graph on every number that it reads in `param_groups`, so it is given none to
read: the operators read them when the graph runs.
"""

from typing import Any

import torch
from torch import Tensor

from meansquare.hyper import Hyper
from meansquare.kernels.plan import Plan
from meansquare.kernels.ranks import spread


class Traced:
    """Of one optimizer. `params` are those of all groups, `states` the very dicts of its state."""

    params: list[Tensor] | None = None
    states: list[dict[str, Any]]
    sizes: list[int]
    number = 0
    written: Tensor  # the settings of the last step, made of these
    hypers: list[Hyper] | None = None
    rates: list[float]
    runs_eagerly = False  # between graphs

    def __init__(self, kind: type[Hyper]) -> None:
        self.plan = Plan(kind)

    def prepare(self, opt: Any) -> None:
        """Fill the lists, and give every parameter with a gradient the state of its first step."""
        from meansquare.kernels import operator  # registers the operators

        groups = opt.param_groups
        params = opt._parameters()
        self.runs_eagerly = not _fits(groups, params)
        if not self.runs_eagerly:
            opt._prepare([p for p in params if p.grad is not None])
        self.number = self.number or operator.number_of(opt)
        self.sizes = [len(group["params"]) for group in groups]
        self.states = [opt.state.get(p, {}) for p in params]
        self.params = params


def _fits(groups: list[dict], params: list[Tensor]) -> bool:
    """Whether a step can be in a graph: neither autograd nor other ranks have to follow it, and
    Inductor has operators of its tensors, none of which lies in another's memory.
    """
    if spread(groups) or any(group["differentiable"] for group in groups):
        return False
    full = [p for p in params if p.numel()]
    apart = len({p.untyped_storage().data_ptr() for p in full}) == len(full)
    return apart and not any(p.is_complex() for p in params)


def step(traced: Traced) -> None:
    """One step, as a graph has it."""
    params, gradients, state, names, ordinals = [], [], [], [], []
    for ordinal, p in enumerate(traced.params or ()):
        if p.grad is not None:
            params.append(p)
            gradients.append(p.grad)
            ordinals.append(ordinal)
            names += ["step", *(name for name in traced.states[ordinal] if name != "step")]
            state.append(traced.states[ordinal]["step"])
            state += [value for name, value in traced.states[ordinal].items() if name != "step"]
    if params:
        with torch.no_grad():
            settings = torch.ops.meansquare.settings(traced.number, len(traced.sizes))
            where = (",".join(names), ordinals, traced.sizes, settings, traced.number)
            torch.ops.meansquare.step(params, gradients, state, *where)
