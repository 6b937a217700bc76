"""The members of the family: the settings of each, its rule, and the numbers that run it."""

import functools
from dataclasses import dataclass

from meansquare import rules
from meansquare.hyper import (
    VARIANCE_FLOOR,
    EpsSetting,
    Hyper,
    Measure,
    Precision,
    Rule,
    WeightDecayMode,
    least_counted,
)
from meansquare.settings import Check, finite
from meansquare.spec import Spec, all_specs


@dataclass(frozen=True)
class RMSPropHyper(Hyper):
    """`reference_lr` is the learning rate that a `corrected` weight decay is relative to;
    `initial_square_avg` is v at step 0; `dialect` is a name that is kept with them.
    """

    STATE = ("square_avg", "grad_avg", "momentum_buffer")
    NEEDED = SQUARES = ("square_avg",)

    lr: float = 1e-2
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False
    eps_place: EpsSetting = "outside"
    nesterov: bool = False
    lr_in_momentum: bool = False
    cautious: bool = False
    bias_correction: bool = False
    initial_square_avg: float = 0.0
    weight_decay_mode: WeightDecayMode = "l2"
    reference_lr: float = 1e-2
    max_update_rms: float | None = None
    grad_norm_eps: float = 1e-6
    dialect: str = "torch"

    def __post_init__(self) -> None:
        if self.cautious and self.max_update_rms is not None:
            raise ValueError(
                "max_update_rms must be None where cautious is True: both scale a step"
            )

    @property
    def norm_eps(self) -> float:
        return self.grad_norm_eps

    @property
    def spec(self) -> Spec:
        """The structure these values ask for: momentum 0 has no buffer, so it freezes one."""
        place = self.eps_place
        if place == "inside_with_momentum":
            place = "outside" if self.momentum == 0 else "inside"
        if self.momentum == 0:
            return Spec(place, "none", self.centered)
        kind = "nesterov" if self.nesterov else "heavy_ball"
        return Spec(place, kind, self.centered, self.lr_in_momentum, self.cautious)

    @property
    def rule(self) -> Rule:
        return rmsprop_rule(self.spec)

    def own_numbers(self, precision: Precision) -> dict[str, float]:
        """Decoupled decay keeps 1 - lr*wd of a weight (Loshchilov & Hutter 2019, arXiv:1711.05101,
        as torch scales it); `corrected` keeps 1 - (lr**2/reference_lr)*wd (timm, `RMSpropTF`).
        """
        mode, decay, floor = self.weight_decay_mode, self.weight_decay, VARIANCE_FLOOR[precision]
        relative = mode == "corrected" and self.reference_lr > 0
        share = floor if self.centered and floor else 1.0  # v*floor is to be normal too
        tiny, least = least_counted(precision, 1.0 - self.alpha, share)
        return {
            "tiny": tiny,
            "least": least,
            "l2": decay if mode == "l2" else 0.0,
            "decoupled": decay if mode != "l2" and not relative else 0.0,
            "corrected": decay / self.reference_lr if relative else 0.0,
            "alpha": self.alpha,
            "bias_correction": float(self.bias_correction),
            "floor": floor,
            "eps": max(self.eps, least * least if self.spec.eps_place == "inside" else least),
            "eps_squared": max(self.eps * self.eps, tiny),
            "mu": self.momentum,
        }

    def first(self, buffer: str) -> float:
        return self.initial_square_avg if buffer == "square_avg" else 0.0


@functools.cache
def rmsprop_rule(spec: Spec) -> Rule:
    def named(others):
        m = others[0] if spec.centered else None
        return m, others[-1] if spec.momentum != "none" else None

    def update(h, p, g, v, *others):
        out = rules.rmsprop(spec, h, p, g, v, *named(others))
        return tuple(x for x in out if x is not None)

    def agrees(h, p, g, v, *others):
        return rules.rmsprop_agrees(spec, h, p, g, v, *named(others))

    measure = Measure("rmsprop_size", ("square_avg",), rules.rmsprop_size)
    if spec.cautious:
        measure = Measure(f"{spec.key}_share", spec.buffers, agrees, is_share=True)
    return Rule(spec.key, spec.buffers, update, _names(RMSPropHyper()), measure)


@dataclass(frozen=True)
class SGDHyper(Hyper):
    """Gradient descent, with momentum where it is not 0."""

    STATE = ("momentum_buffer",)
    STEP_IS_OF_BUFFERS = True

    lr: float = 1e-3
    momentum: float = 0.0
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    @property
    def rule(self) -> Rule:
        kind = "nesterov" if self.nesterov else "heavy_ball"
        return sgd_rule("none" if self.momentum == 0 else kind)

    def own_numbers(self, precision: Precision) -> dict[str, float]:
        return {"l2": self.weight_decay, "mu": self.momentum, "dampening": self.dampening}

    @classmethod
    def check_of(cls, name: str) -> Check:
        return finite if name == "dampening" else super().check_of(name)

    def __post_init__(self) -> None:
        if self.nesterov and self.momentum != 0 and self.dampening != 0:
            raise ValueError(f"dampening must be 0 where nesterov is True, got {self.dampening!r}")


@functools.cache
def sgd_rule(momentum: str) -> Rule:
    def update(h, p, g, b=None):
        return tuple(x for x in rules.sgd(momentum, h, p, g, b) if x is not None)

    plain = momentum == "none"
    key, buffers = "sgd" if plain else f"sgd_{momentum}", () if plain else SGDHyper.STATE
    return Rule(key, buffers, update, _names(SGDHyper()))


@dataclass(frozen=True)
class AdaGradHyper(Hyper):
    """`initial_accumulator_value` is the sum of squares at step 0."""

    STATE = NEEDED = SQUARES = ("sum",)

    lr: float = 1e-2
    lr_decay: float = 0.0
    weight_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10

    @property
    def rule(self) -> Rule:
        return adagrad_rule()

    def own_numbers(self, precision: Precision) -> dict[str, float]:
        _, least = least_counted(precision, 1.0)
        eps = max(self.eps, least)
        return {"l2": self.weight_decay, "lr_decay": self.lr_decay, "least": least, "eps": eps}

    def first(self, buffer: str) -> float:
        return self.initial_accumulator_value


@functools.cache
def adagrad_rule() -> Rule:
    return Rule("adagrad", AdaGradHyper.STATE, rules.adagrad, _names(AdaGradHyper()))


@dataclass(frozen=True)
class AdamHyper(Hyper):
    """Adam, and with decoupled decay AdamW."""

    STATE = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    NEEDED = ("exp_avg", "exp_avg_sq")
    SQUARES = ("exp_avg_sq", "max_exp_avg_sq")

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False
    decoupled_weight_decay: bool = False
    max_update_rms: float | None = None

    @property
    def rule(self) -> Rule:
        return adam_rule(self.amsgrad)

    def own_numbers(self, precision: Precision) -> dict[str, float]:
        beta1, beta2 = self.betas
        tiny, least = least_counted(precision, 1.0 - beta2)
        decay, decoupled = self.weight_decay, self.decoupled_weight_decay
        return {
            "least": least,
            "l2": 0.0 if decoupled else decay,
            "decoupled": decay if decoupled else 0.0,
            "beta1": beta1,
            "beta2": beta2,
            "eps": max(self.eps, least),
            "eps_squared": max(self.eps * self.eps, tiny),
        }


@functools.cache
def adam_rule(amsgrad: bool) -> Rule:
    def update(h, p, g, m, v, x=None):
        return tuple(y for y in rules.adam(amsgrad, h, p, g, m, v, x) if y is not None)

    key, buffers = ("adam_amsgrad", AdamHyper.STATE) if amsgrad else ("adam", AdamHyper.NEEDED)
    measure = Measure("adam_size", ("exp_avg_sq",), rules.adam_size)
    return Rule(key, buffers, update, _names(AdamHyper()), measure)


@dataclass(frozen=True)
class RpropHyper(Hyper):
    """`etas` are the factors on a step that turned and on one that did not."""

    STATE = NEEDED = ("prev", "step_size")
    SQUARES = ("step_size",)

    lr: float = 1e-2
    etas: tuple[float, float] = (0.5, 1.2)
    step_sizes: tuple[float, float] = (1e-6, 50.0)

    @property
    def rule(self) -> Rule:
        return rprop_rule()

    def own_numbers(self, precision: Precision) -> dict[str, float]:
        less, more = self.etas
        least, most = self.step_sizes
        return {"eta_minus": less, "eta_plus": more, "least_size": least, "most_size": most}

    def first(self, buffer: str) -> float:
        return self.lr if buffer == "step_size" else 0.0


@functools.cache
def rprop_rule() -> Rule:
    return Rule("rprop", RpropHyper.STATE, rules.rprop, _names(RpropHyper()))


@dataclass(frozen=True)
class SignSGDHyper(Hyper):
    """Descent along the sign of the gradient."""

    lr: float = 1e-3
    weight_decay: float = 0.0

    @property
    def rule(self) -> Rule:
        return sign_rule()

    def own_numbers(self, precision: Precision) -> dict[str, float]:
        return {"decoupled": self.weight_decay}


@functools.cache
def sign_rule() -> Rule:
    return Rule("sign", (), rules.sign_descent, _names(SignSGDHyper()))


def _names(hyper: Hyper) -> tuple[str, ...]:
    return tuple(hyper.numbers("float32"))


def all_rules() -> tuple[Rule, ...]:
    """Every rule there is, in the order of the generated kernels."""
    return (
        *(rmsprop_rule(spec) for spec in all_specs()),
        *(sgd_rule(kind) for kind in ("none", "heavy_ball", "nesterov")),
        adagrad_rule(),
        *(adam_rule(amsgrad) for amsgrad in (False, True)),
        rprop_rule(),
        sign_rule(),
    )
