"""Your own rule: some lines of arithmetic become an optimizer."""

import dataclasses
import hashlib
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch

from meansquare import rules
from meansquare.hyper import CHECKS, RUN_CHECKS, Hyper, Precision, Rule
from meansquare.optimizers.fused import FusedOptimizer
from meansquare.printer import BUFFERS, cpp_rule
from meansquare.settings import Check, finite, shown, told_by
from meansquare.trace import RUNTIME

_SHARED = ("sign", "clip", "tiny", "l2")  # numbers that every rule has
_RUN: dict[str, Any] = {
    "maximize": False,
    "foreach": None,
    "differentiable": False,
    "rank_local": False,
    "fused": None,
    "clip_value": None,
    "max_grad_norm": None,
    "seed": 0,
}


def optimizer(**settings: float) -> Callable[[Callable[..., Any]], type[FusedOptimizer]]:
    """Make an optimizer of an update rule: `@optimizer(lr=..., ...)` over a function.

    The function takes the numbers `h`, the parameter `p`, its gradient `g` and its buffers, and
    returns the new parameter and buffers, in this order. `h` has the settings by their names, which
    are numbers, and `h.t`, the step's own number (1 for the first). Elements know + - * / < >, and
    what `meansquare.rules` has: sqrt, sign, choose, at_least, at_most, square, or_zero. A buffer
    begins at its default, or at 0.

    What is computed of `h` alone is computed in double precision, once a step; a division by zero
    there is infinite in the kernel, and an error where torch operations run the rule. The optimizer
    has these settings as arguments, and clip_value, max_grad_norm, maximize, foreach, fused,
    differentiable and seed, which need no word in the rule. Its kernel is compiled at the first
    step, where a C++20 compiler is, and kept in a cache (`MEANSQUARE_CACHE`, else
    `~/.cache/meansquare`); `explain()` says which kernel runs, and why not the compiled one.

    Raises TypeError or ValueError for a function or settings of another form.

    >>> import torch
    >>> from meansquare.rules import sign
    >>> @optimizer(lr=0.5, beta=0.9)
    ... def Signum(h, p, g, m):
    ...     m = h.beta * m + (1 - h.beta) * g
    ...     return p - h.lr * sign(m), m
    >>> p = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    >>> opt = Signum([p], beta=0.5)
    >>> p.square().sum().backward()
    >>> opt.step()
    >>> p.detach(), opt.state[p]["m"]
    (tensor([ 0.5000, -1.5000]), tensor([ 1., -2.]))
    """

    def make(function: Callable[..., Any]) -> type[FusedOptimizer]:
        with told_by(getattr(function, "__name__", "optimizer")):
            if not inspect.isfunction(function):
                raise TypeError(f"a rule is a function, got {shown(function)}")
            buffers = _buffers_of(function)
            kind = _hyper_of(function, _checked(settings), buffers)
            _try(kind.checked(settings, ""))
        return _optimizer_of(function, kind)

    return make


def _checked(settings: Mapping[str, Any]) -> dict[str, float]:
    if "lr" not in settings:
        raise ValueError(f"a rule needs lr among its settings, got {shown(list(settings))}")
    taken = {*RUNTIME, *_SHARED, *_RUN, *RUN_CHECKS, *dir(Hyper), "params", "param_names"}
    for name in settings:
        if name != "lr" and (name in taken or name.startswith("_")):
            raise ValueError(f"the setting {name!r} has a meaning of its own; rename it")
    return {name: _check_of(name)(name, value) for name, value in settings.items()}


def _check_of(name: str) -> Check:
    return CHECKS["lr"] if name == "lr" else finite


def _buffers_of(function: Callable[..., Any]) -> dict[str, float]:
    """The names of a rule's buffers, and what they begin at."""
    params = list(inspect.signature(function).parameters.values())
    if [p.name for p in params[:3]] != ["h", "p", "g"] or any(
        p.kind is not p.POSITIONAL_OR_KEYWORD for p in params
    ):
        got = ", ".join(str(p) for p in params)
        raise TypeError(f"a rule takes h, p, g and its buffers, got ({got})")
    if len(params) > 3 + BUFFERS:
        raise ValueError(f"a rule has at most {BUFFERS} buffers, got {len(params) - 3}")
    if any(p.name == "step" for p in params):
        raise ValueError("'step' is the count of steps in the state; rename this buffer")
    return {p.name: 0.0 if p.default is p.empty else finite(p.name, p.default) for p in params[3:]}


def _hyper_of(
    function: Callable[..., Any], settings: dict[str, float], buffers: dict[str, float]
) -> type[Hyper]:
    """The settings of a rule as a Hyper, which knows the rule."""
    others = tuple(name for name in settings if name != "lr")

    def update(h, p, g, *old):
        out = function(h, p, rules.gradient(h, p, g), *old)
        kinds = [type(x).__name__ for x in (out if isinstance(out, tuple) else (out,))]
        if len(kinds) != 1 + len(buffers) or {"NoneType", "list"} & {*kinds}:
            wanted, got = ", ".join(("p", *buffers)), ", ".join(kinds)
            raise TypeError(f"a rule returns what it writes, ({wanted}), got ({got})")
        return out

    def own_numbers(self: Hyper, precision: Precision) -> dict[str, float]:
        return {name: getattr(self, name) for name in others}

    rule = Rule("", tuple(buffers), update, (*_SHARED, *others))
    rule = dataclasses.replace(rule, key=_key(function.__name__, rule))
    fields = [(name, float, dataclasses.field(default=value)) for name, value in settings.items()]
    checks = CHECKS | RUN_CHECKS
    return dataclasses.make_dataclass(
        f"{function.__name__}Hyper",
        fields,
        bases=(Hyper,),
        frozen=True,
        namespace={
            "STATE": tuple(buffers),
            "NEEDED": tuple(buffers),
            "rule": property(lambda self: rule),
            "own_numbers": own_numbers,
            "first": lambda self, buffer: buffers[buffer],
            "check_of": classmethod(
                lambda cls, name: _check_of(name) if name in settings else checks[name]
            ),
        },
    )


def _try(hyper: Hyper) -> None:
    """Run the first step of a rule on two elements: what is wrong with it is told here."""
    p = torch.ones(2)
    held = [torch.full_like(p, hyper.first(name)) for name in hyper.rule.buffers]
    hyper.rule.update(hyper.at(1.0, "float32"), p, torch.ones(2), *held)


def _key(name: str, rule: Rule) -> str:
    """A symbol that the same rule always has, and no other."""
    try:
        text = cpp_rule(dataclasses.replace(rule, key="rule"))
    except Exception as error:  # the rule does what cannot be compiled: torch operations run it
        text = repr(error)
    name = re.sub(r"\W", "", name, flags=re.ASCII)
    return f"own_{name}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _optimizer_of(function: Callable[..., Any], kind: type[Hyper]) -> type[FusedOptimizer]:
    params = [inspect.Parameter("params", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    for field in dataclasses.fields(kind):
        if field.name not in _RUN:
            params.append(params[0].replace(name=field.name, default=field.default))
    for name, value in _RUN.items():
        keyword = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value)
        params.append(keyword)
    signature = inspect.Signature(params)

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        with told_by(function.__name__):
            given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        FusedOptimizer.__init__(self, given.arguments["params"], dict(given.arguments))

    __init__.__doc__ = f"Settings of {function.__name__}; see `meansquare.optimizer`."
    namespace = {
        "__doc__": function.__doc__,
        "__module__": function.__module__,
        "__qualname__": function.__qualname__,
        "__init__": __init__,
        "__signature__": signature,
        "_kind": kind,
    }
    return type(function.__name__, (FusedOptimizer,), namespace)
