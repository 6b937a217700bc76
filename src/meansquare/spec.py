"""What a rule is (`Spec`), the numbers it runs on (`Hyper`), and every check of either."""

import itertools
import math
import reprlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

EpsPlace = Literal["outside", "inside", "max"]
Momentum = Literal["none", "heavy_ball", "nesterov"]
WeightDecayMode = Literal["l2", "decoupled", "corrected"]


@dataclass(frozen=True)
class Spec:
    """The structure of an RMSProp update: whatever changes its buffers or the order of operations.

    `eps_place` is where eps stands in the denominator: `outside` sqrt(v)+eps, `inside`
    sqrt(v+eps), `max` max(sqrt(v), eps). `momentum` adds the buffer b, `centered` the average m
    of the gradient. With `lr_in_momentum` the learning rate enters b when the gradient does (as
    in TensorFlow and Keras) instead of scaling b on its way out (as in torch).

    >>> Spec(eps_place="inside", momentum="nesterov", lr_in_momentum=True).key
    'rmsprop_inside_nesterov_lr'
    """

    eps_place: EpsPlace = "outside"
    momentum: Momentum = "none"
    centered: bool = False
    lr_in_momentum: bool = False

    def __post_init__(self) -> None:
        if self.lr_in_momentum and self.momentum == "none":
            raise ValueError("Spec: lr_in_momentum=True needs momentum, got momentum='none'")

    @property
    def key(self) -> str:
        """The one name of this variant: C++ symbol, Triton function, test id."""
        words = ["rmsprop", self.eps_place]
        words += ["centered"] if self.centered else []
        words += [self.momentum] if self.momentum != "none" else []
        words += ["lr"] if self.lr_in_momentum else []
        return "_".join(words)

    @property
    def buffers(self) -> tuple[str, ...]:
        """Names of the state tensors that the rule reads and writes, as torch spells them."""
        names = ["square_avg"]
        names += ["grad_avg"] if self.centered else []
        names += ["momentum_buffer"] if self.momentum != "none" else []
        return tuple(names)


def all_specs() -> tuple[Spec, ...]:
    """Every Spec there is, in the order of the generated kernels."""
    buffers = [("none", False), *itertools.product(("heavy_ball", "nesterov"), (False, True))]
    choices = itertools.product(get_args(EpsPlace), (False, True), buffers)
    return tuple(
        Spec(eps_place, momentum, centered, lr_in_momentum)
        for eps_place, centered, (momentum, lr_in_momentum) in choices
    )


@dataclass(frozen=True)
class Hyper:
    """The hyper-parameters of one parameter group, as a user or a scheduler sets them.

    The fields carry the names of the keys of a `param_groups` entry. `reference_lr` is the
    learning rate that a `corrected` weight decay is relative to; `initial_square_avg` is v at
    step 0; `seed` keys the stochastic rounding of bfloat16 and float16 parameters.
    """

    lr: float = 1e-2
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False
    maximize: bool = False
    eps_place: EpsPlace = "outside"
    nesterov: bool = False
    lr_in_momentum: bool = False
    bias_correction: bool = False
    initial_square_avg: float = 0.0
    weight_decay_mode: WeightDecayMode = "l2"
    reference_lr: float = 1e-2
    seed: int = 0

    @property
    def spec(self) -> Spec:
        """The structure these values ask for: momentum 0 has no buffer, so it freezes one."""
        if self.momentum == 0:
            return Spec(self.eps_place, "none", self.centered)
        kind = "nesterov" if self.nesterov else "heavy_ball"
        return Spec(self.eps_place, kind, self.centered, self.lr_in_momentum)

    @classmethod
    def checked(cls, group: Mapping[str, Any], where: str) -> "Hyper":
        """The Hyper of a `param_groups` entry; `where` ends the message of an error.

        Raises ValueError for a value out of range and TypeError for one of the wrong kind.

        >>> Hyper.checked({"alpha": 1.5}, where=" in group 2")
        Traceback (most recent call last):
        ValueError: RMSProp: alpha must be in [0, 1), got 1.5 in group 2
        """
        values = {
            name: check(name, group[name], where)
            for name, check in _CHECKS.items()
            if name in group
        }
        return cls(**{name: values[name] for name in HYPER_NAMES if name in values})


HYPER_NAMES = tuple(field.name for field in fields(Hyper))
# What a group says of how to run a step, not of its numbers.
BACKEND_NAMES = ("capturable", "foreach", "fused", "differentiable")


class _Short(reprlib.Repr):
    """Plain values in Python's words and cut short; of anything else its type, and its shape."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxtuple, self.maxstring, self.maxother = 2, 10, 100, 100

    def repr_instance(self, x: Any, level: int) -> str:
        if isinstance(x, (bool, int, float, complex, str, bytes, type(None))):
            return super().repr_instance(x, level)
        shape = getattr(x, "shape", None)
        return type(x).__name__ + ("" if shape is None else f" of shape {tuple(shape)}")


def shown(value: Any) -> str:
    """How messages show a value: one short line, whatever it is, without running code of its own.

    >>> shown([[[["deep"]]]]), shown("a" * 300)[-4:], shown(10**5000)
    ('[[[...]]]', "aaa'", 'a value of type int')
    """
    try:
        text = _Short().repr(value)
    except Exception:  # a number of too many digits, a tensor without a shape
        text = f"a value of type {type(value).__name__}"
    return " ".join(text.split())


def _number(name: str, value: Any, where: str) -> float:
    """A Python float from a float, an int, a NumPy scalar or a tensor of one element."""
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        return float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise TypeError(f"RMSProp: {name} must be a number, got {shown(value)}{where}") from None


def _interval(low: float, high: float, words: str):
    def check(name: str, value: Any, where: str) -> float:
        number = _number(name, value, where)
        if low <= number < high:
            return number
        raise ValueError(f"RMSProp: {name} must be {words}, got {number!r}{where}")

    return check


def _flag(name: str, value: Any, where: str) -> bool:
    with suppress(RuntimeError):  # of a tensor without a value
        if not getattr(value, "ndim", 0) and value in (True, False):
            return bool(value)
    raise TypeError(f"RMSProp: {name} must be True or False, got {shown(value)}{where}")


def _optional_flag(name: str, value: Any, where: str) -> bool | None:
    return None if value is None else _flag(name, value, where)


def _choice(options: tuple[str, ...]):
    def check(name: str, value: Any, where: str) -> Any:
        if isinstance(value, str) and value in options:
            return value
        raise ValueError(f"RMSProp: {name} must be one of {options}, got {shown(value)}{where}")

    return check


def _seed(name: str, value: Any, where: str) -> int:
    if isinstance(value, int) and 0 <= value < 2**64:
        return value
    raise ValueError(f"RMSProp: {name} must be an integer in [0, 2**64), got {shown(value)}{where}")


_at_least_zero = _interval(0.0, math.inf, "finite and >= 0")
_fraction = _interval(0.0, 1.0, "in [0, 1)")
_CHECKS = {
    "lr": _at_least_zero,
    "alpha": _fraction,
    "eps": _at_least_zero,
    "weight_decay": _at_least_zero,
    "momentum": _at_least_zero,
    "centered": _flag,
    "maximize": _flag,
    "eps_place": _choice(get_args(EpsPlace)),
    "nesterov": _flag,
    "lr_in_momentum": _flag,
    "bias_correction": _flag,
    "initial_square_avg": _at_least_zero,
    "weight_decay_mode": _choice(get_args(WeightDecayMode)),
    "reference_lr": _at_least_zero,
    "seed": _seed,
    "capturable": _flag,
    "foreach": _optional_flag,
    "fused": _optional_flag,
    "differentiable": _flag,
}
