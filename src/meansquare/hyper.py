"""What every member of the family has: a rule, and settings that are checked and made numbers."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import SimpleNamespace
from typing import Any, ClassVar, Literal, get_args

from meansquare.settings import (
    Check,
    above_zero,
    at_least_zero,
    between,
    flag,
    fraction,
    not_negative,
    one_of,
    optional,
    pair_of,
    seed,
    state_format,
    text,
    told_by,
)
from meansquare.trace import Trace, trace

Precision = Literal["float32", "float64"]
WeightDecayMode = Literal["l2", "decoupled", "corrected"]
EpsSetting = Literal["outside", "inside", "max", "inside_with_momentum"]

# Twice the least normal number. What is smaller counts as zero: averages that decay come to
# subnormal numbers in the end, over which processors take many times as long.
TINY: dict[Precision, float] = {"float32": 2.0**-125, "float64": 2.0**-1021}
# Centered: v - m*m loses its digits when g hardly varies. Below v * 2**-20 (2**-49 in float64)
# the difference is rounding noise, so it is held there and a step stays near 2**10 * lr.
VARIANCE_FLOOR: dict[Precision, float] = {"float32": 2.0**-20, "float64": 2.0**-49}
MOST_NUMBERS = 40  # that a rule may have to be compiled, as groups.h has it
LEAST_SHARE = (
    1e-3  # of a tensor that a cautious update takes for moved (Liang et al. 2024, in timm)
)


CHECKS: dict[str, Check] = {
    "lr": at_least_zero,
    "maximize": flag,
    "clip_value": optional(above_zero),
    "max_grad_norm": optional(above_zero),
    "grad_norm_eps": at_least_zero,
    "max_update_rms": optional(above_zero),
    "seed": seed,
    "weight_decay": at_least_zero,
    "alpha": fraction,
    "eps": at_least_zero,
    "momentum": at_least_zero,
    "centered": flag,
    "eps_place": one_of(get_args(EpsSetting)),
    "nesterov": flag,
    "lr_in_momentum": flag,
    "cautious": flag,
    "bias_correction": flag,
    "initial_square_avg": at_least_zero,
    "weight_decay_mode": one_of(get_args(WeightDecayMode)),
    "reference_lr": at_least_zero,
    "dialect": text,
    "lr_decay": at_least_zero,
    "initial_accumulator_value": at_least_zero,
    "betas": pair_of(fraction, fraction),
    "amsgrad": flag,
    "decoupled_weight_decay": flag,
    "etas": pair_of(
        between(0.0, 1.0, "in (0, 1)", without=0.0),
        between(1.0, math.inf, "finite and > 1", without=1.0),
    ),
    "step_sizes": pair_of(at_least_zero, not_negative),
}
# What a group says of how to run a step, not of its numbers.
RUN_CHECKS: dict[str, Check] = {
    "capturable": flag,
    "foreach": optional(flag),
    "fused": optional(flag),
    "differentiable": flag,
    "rank_local": flag,
    "state_format": state_format,
}


def least_counted(precision: Precision, gain: float, floor: float = 1.0) -> tuple[float, float]:
    """What is too small to count in a mean of squares, and the least gradient that counts in it.

    A square enters the mean times `gain`; the mean is used times `floor`, and is normal still.
    """
    tiny = TINY[precision] / floor
    return tiny, math.sqrt(tiny / gain)  # so gain*g*g is `tiny` or more


@dataclass(frozen=True)
class Measure:
    """What scales an update and is known only once the tensor has been read: the mean over it of
    the element that `of(h, p, g, *buffers)` returns, with these of the rule's buffers.

    The mean is the square of the update's size, which is held below a limit; or, with `is_share`,
    the share of the weights that move, whose inverse is the scale.
    """

    key: str
    buffers: tuple[str, ...]
    of: Callable[..., Any] = field(repr=False)
    is_share: bool = False

    def scale(self, mean: float, most: float | None) -> float:
        """The factor on the update; `most` is its largest size."""
        if self.is_share:
            return 1 / max(mean, LEAST_SHARE)
        size = math.sqrt(mean)
        return most / size if most is not None and size > most else 1.0


@dataclass(frozen=True)
class Rule:
    """An update: its one name, the state it keeps, and its arithmetic.

    `key` is its C++ symbol, Triton function and test id. `update(h, p, g, *buffers)` returns the
    new parameter and buffers; `numbers` are those that `h` has beside the RUNTIME's.
    """

    key: str
    buffers: tuple[str, ...]
    update: Callable[..., Any] = field(repr=False)
    numbers: tuple[str, ...] = field(repr=False)
    measure: Measure | None = field(default=None, repr=False)

    @property
    def letters(self) -> tuple[str, ...]:
        """The names of its streams in generated code."""
        return ("p", "g", *(f"s{i}" for i in range(len(self.buffers))))

    def traced(self) -> Trace:
        return trace(self.update, self.letters, self.numbers)


@dataclass(frozen=True)
class Hyper(ABC):
    """The settings of one parameter group, as a user or a scheduler sets them.

    The fields carry the names of the keys of a `param_groups` entry. `seed` keys the stochastic
    rounding of bfloat16 and float16 parameters.
    """

    STATE: ClassVar[tuple[str, ...]] = ()
    """Every buffer that a parameter's state may hold, as torch spells them."""
    NEEDED: ClassVar[tuple[str, ...]] = ()
    """Those that no state goes without."""
    SQUARES: ClassVar[tuple[str, ...]] = ()
    """Those that are never negative."""
    STEP_IS_OF_BUFFERS: ClassVar[bool] = False
    """Whether steps are counted from when the buffers are made (torch keeps no count)."""

    lr: float
    maximize: bool = False
    clip_value: float | None = None
    max_grad_norm: float | None = None
    seed: int = 0

    @property
    @abstractmethod
    def rule(self) -> Rule:
        """The update that these settings ask for."""

    @abstractmethod
    def own_numbers(self, precision: Precision) -> dict[str, float]:
        """The numbers of its own rule, beside those that every rule has."""

    def numbers(self, precision: Precision) -> dict[str, float]:
        """What the rule's `h` tells, for elements computed in `precision`."""
        return {
            "sign": -1.0 if self.maximize else 1.0,
            "clip": math.inf if self.clip_value is None else self.clip_value,
            "tiny": TINY[precision],
            "l2": 0.0,
        } | self.own_numbers(precision)

    def at(self, step: float, precision: Precision, grad_scale=1.0, update_scale=1.0) -> Any:
        """The `h` of one step (1 for the first), as the rule reads it when it is not compiled."""
        runtime = {"t": step, "lr": self.lr, "grad_scale": grad_scale, "update_scale": update_scale}
        return SimpleNamespace(**runtime, **self.numbers(precision))

    def first(self, buffer: str) -> float:
        """What a buffer holds before the first step."""
        return 0.0

    @property
    def max_update(self) -> float | None:
        """The largest size of an update before it is made smaller, in members that have one."""
        return getattr(self, "max_update_rms", None)

    @property
    def measures(self) -> bool:
        """Whether a step is scaled by what its rule measures first."""
        measure = self.rule.measure
        return measure is not None and (measure.is_share or self.max_update is not None)

    @property
    def norm_eps(self) -> float:
        """What is added to the norm of the gradients before it divides."""
        return 1e-6

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(f.name for f in fields(cls))

    @classmethod
    def checked(cls, group: Mapping[str, Any], who: str, where: str = "") -> Any:
        """The Hyper of a `param_groups` entry; `who` begins an error's message, `where` ends it.

        Raises ValueError for a value out of range and TypeError for one of the wrong kind.

        >>> Hyper.checked({"lr": -1.0}, "RMSProp", " in group 2")
        Traceback (most recent call last):
        ValueError: RMSProp: lr must be finite and >= 0, got -1.0 in group 2
        """
        with told_by(who, where):
            known = {name: cls.check_of(name) for name in (*cls.names(), *RUN_CHECKS)}
            values = {n: check(n, group[n]) for n, check in known.items() if n in group}
            return cls(**{name: values[name] for name in cls.names() if name in values})

    @classmethod
    def check_of(cls, name: str) -> Check:
        return (RUN_CHECKS | CHECKS)[name]
