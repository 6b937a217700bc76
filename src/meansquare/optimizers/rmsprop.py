"""RMSProp, in all its variants."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, cast

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from meansquare.dialects import (
    DIALECTS,
    dialect_of,
    in_our_words,
    own_settings,
    settings_of,
    wrote,
)
from meansquare.family import RMSPropHyper
from meansquare.guarding import Guard
from meansquare.hyper import EpsSetting, WeightDecayMode
from meansquare.maths import maths
from meansquare.optimizers.fused import FusedOptimizer
from meansquare.optimizers.rescaled import rescale_state, rescaled
from meansquare.settings import above_zero, told_by

P = ParamSpec("P")


def _in_dialect(init: Callable[P, None]) -> Callable[P, None]:
    """Let arguments be spelled as the dialect spells them, and what is left out be its own."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def settled(*args: Any, **kwargs: Any) -> None:
        self = args[0]
        with told_by(type(self).__name__):
            given = dict(signature.bind(*args, **kwargs).arguments)
            given |= given.pop("spelled", {})
            params = (given.pop("self"), given.pop("params"))
            guard = given.pop("guard", None)
            settings = settings_of(given)
        self._given = given
        init(*params, **settings, guard=guard)  # type: ignore[call-arg]

    return settled  # type: ignore[return-value]


class RMSProp(FusedOptimizer):
    r"""RMSProp, a drop-in for `torch.optim.RMSprop` in one pass over memory.

    v = alpha*v + (1-alpha)*g^2;  p = p - lr*g/(sqrt(v)+eps)

    Takes the arguments of `torch.optim.RMSprop` in their order and with their defaults, and gives
    its trajectory; the keyword-only arguments are the switches in which other frameworks differ.
    State (`square_avg`, `momentum_buffer`, `grad_avg`) is float32 for bfloat16, float16 and
    float32 parameters, float64 for float64, and complex as the parameter is (as two reals).
    bfloat16 and float16 parameters are rounded stochastically, so that small steps add up.

    Args:
        params: parameters, named parameters or dicts of groups, as torch.optim takes them
        lr: learning rate, a number or a tensor of one element
        alpha: decay of the averages, in [0, 1)
        eps: added to the denominator
        weight_decay: L2 penalty, or decoupled (see `weight_decay_mode`)
        momentum: factor mu of the buffer b = mu*b + g/(sqrt(v)+eps), by which p then moves
        centered: divide by the standard deviation sqrt(v - m^2), m = alpha*m + (1-alpha)*g; the
            variance is held above v*2**-20 (2**-49 in float64), where torch gives NaN
        capturable, foreach, fused: accepted; every step is fused where a kernel is
        maximize: ascend
        differentiable: let autograd follow the step (through torch operations)
        dialect: whose RMSProp this is: `keras`, `tf1`, `optax`, `timm`, ... (`meansquare dialects`
            lists them). What is not given is as it is there, and its own names are accepted too:
            `RMSProp(params, dialect="keras", learning_rate=1e-3, rho=0.95)`. Groups keep it as a
            label: another one, set later, changes no setting
        eps_place: `outside` sqrt(v)+eps, `inside` sqrt(v+eps), `max` max(sqrt(v), eps);
            `inside_with_momentum` is outside while momentum is 0 (tf.keras before 2.11)
        nesterov: move by g/(sqrt(v)+eps) + mu*b instead of b
        lr_in_momentum: the learning rate enters the buffer (TensorFlow, Keras)
        cautious: with momentum, move only the weights whose step goes against their gradient, and
            these by the inverse of their share (Liang et al. 2024, arXiv:2411.16085; for one more
            read of everything; compiled at the first step)
        bias_correction: divide v (and m) by 1 - alpha^t
        initial_square_avg: v before the first step (1 in TensorFlow 1)
        weight_decay_mode: `l2` adds weight_decay*p to g; `decoupled` multiplies p by
            1 - lr*weight_decay; `corrected` by 1 - lr^2/reference_lr*weight_decay
        reference_lr: largest learning rate of the schedule, for `corrected` (default: the lr that
            the optimizer is made with)
        clip_value: each element of the gradient is held within [-clip_value, clip_value] first
        max_grad_norm: all gradients are scaled so that their norm, over every group that has a
            limit, is at most this (as `torch.nn.utils.clip_grad_norm_`; for one more read of them);
            parts of DTensors are summed over their ranks
        rank_local: other ranks have other parameters in this group (experts, pipeline stages,
            ZeroRedundancyOptimizer): its norm and overflows are agreed over all processes, of which
            each is to step
        grad_norm_eps: added to that norm (1e-6 in torch, 0 in TensorFlow and Keras)
        max_update_rms: an update of a tensor whose size sqrt(mean(g^2/max(v, eps^2))) is more is
            made this large (Shazeer & Stern 2018, arXiv:1804.04235; 1.0 there; for one more read of
            g and v, and of p where decay is L2)
        seed: of the stochastic rounding
        guard: looks at each step before it is made (`meansquare.Guard`)
        spelled: arguments by the names that the dialect has for them

    Raises:
        ValueError, TypeError: an argument out of range, of the wrong kind, unknown to the dialect
            or not offered; at a step, a sparse gradient or a dtype without a rule. Nothing is
            changed then.

    Source: Hinton, Neural Networks for Machine Learning, lecture 6e (2012); torch 2.13,
    torch/optim/rmsprop.py; centered: Graves 2013, arXiv:1308.0850, equations 38-45.

    >>> import torch
    >>> p = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    >>> opt = RMSProp([p], lr=0.01)
    >>> p.square().sum().backward()
    >>> opt.step()
    >>> p.detach()
    tensor([0.9000, 1.9000])
    >>> print(RMSProp([p], dialect="optax", learning_rate=0.1, momentum=0.9).rule(0))
    v = alpha*v + (1-alpha)*g*g;  b = mu*b + lr*g/sqrt(v + eps);  p = p - b
    """

    _kind = RMSPropHyper
    _given: Mapping[str, Any]
    """What the constructor was given: arguments of a dialect may only mean something together."""

    @_in_dialect
    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        *,
        dialect: str = "torch",
        fused: bool | None = None,
        eps_place: EpsSetting = "outside",
        nesterov: bool = False,
        lr_in_momentum: bool = False,
        cautious: bool = False,
        bias_correction: bool = False,
        initial_square_avg: float = 0.0,
        weight_decay_mode: WeightDecayMode = "l2",
        reference_lr: float | None = None,
        clip_value: float | None = None,
        max_grad_norm: float | None = None,
        rank_local: bool = False,
        grad_norm_eps: float = 1e-6,
        max_update_rms: float | None = None,
        seed: int = 0,
        guard: Guard | None = None,
        **spelled: Any,
    ) -> None:
        super().__init__(params, locals())

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, with the defaults for whatever it leaves out.

        A group that names a dialect of its own takes from it whatever makes a dialect (the rule,
        its numbers and its learning rate), and the rest from the defaults. Raises ValueError or
        TypeError as the constructor does; nothing is added then.
        """
        if isinstance(param_group, dict):  # torch refuses anything else
            with told_by(type(self).__name__, f" in group {len(self.param_groups)}"):
                param_group = self._in_our_words(param_group)
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        group["reference_lr"] = self._check(group, "").reference_lr

    def _in_our_words(self, group: dict[str, Any]) -> dict[str, Any]:
        """A group that is to be added, in our words, with what makes a dialect of its own."""
        default = self.defaults.get("dialect", "torch")
        row = dialect_of(group.get("dialect", default))
        if row.name == default:
            return in_our_words(row, group, place="group", besides=self._given)
        own = {"reference_lr": None} | own_settings(row) | in_our_words(row, group, place="group")
        if "lr" not in own and "lr" not in {*map(dialect_of(default).setting, self._given)}:
            raise TypeError(f"dialect {row.name!r} has no learning rate of its own; give one")
        return {"lr": self.defaults["lr"]} | own

    def rule(self, group: int) -> str:
        """The step of a parameter group as one line of maths (see `meansquare.maths`)."""
        return maths(self._check(self.param_groups[group], f" in group {group}"))

    @torch.no_grad()
    def rescale(self, batch_from: float, batch_to: float) -> None:
        """Go on with batches of another size: the square-root rule for every group.

        With kappa = batch_to/batch_from: lr*sqrt(kappa), kappa*(1-alpha), eps/sqrt(kappa) (inside
        the root eps/kappa), and v/kappa; with momentum kappa*(1-mu), lr*kappa**1.5, b/sqrt(kappa);
        decoupled weight decay so that lr*weight_decay is kappa times as large. Curves of the loss
        over samples stay where they were as long as gradients are mostly noise; L2 decay, limits of
        norms and clipping by value stay as they are. With bias correction, the count of steps
        becomes the (rounded) one at which the correction is the same. Schedulers keep learning
        rates of their own: make them afterwards.

        Raises ValueError, and changes nothing, for sizes that are not above 0 and where an average
        would have to forget all at a step.
        Source: Malladi et al. 2022, arXiv:2205.10287.

        >>> opt = RMSProp([torch.nn.Parameter(torch.ones(2))], lr=1e-3, alpha=0.99)
        >>> opt.rescale(32, 128)
        >>> opt.param_groups[0]["lr"], round(opt.param_groups[0]["alpha"], 12)
        (0.002, 0.96)
        """
        with told_by(type(self).__name__):
            before, after = (
                above_zero(f"rescale: {name}", value)
                for name, value in (("batch_from", batch_from), ("batch_to", batch_to))
            )
            kappa, hypers = after / before, cast(list[RMSPropHyper], self._checked_groups())
            new = [
                rescaled(hyper, kappa, before, f" in group {i}") for i, hyper in enumerate(hypers)
            ]
        rates = {id(g["lr"]): g["lr"] for g in self.param_groups if isinstance(g["lr"], Tensor)}
        factors = {id(g["lr"]): own.rate for g, own in zip(self.param_groups, new, strict=True)}
        for number, rate in rates.items():  # groups may share one
            rate.mul_(factors[number])
        for group, own in zip(self.param_groups, new, strict=True):
            if not isinstance(group["lr"], Tensor):
                group["lr"] *= own.rate
            group.update(own.settings)
            for p in group["params"]:
                rescale_state(self.state.get(p, {}), own)

    def __repr__(self) -> str:
        return "\n".join((super().__repr__(), *map(self._shown, range(len(self.param_groups)))))

    def _shown(self, i: int) -> str:
        dialect = self.param_groups[i].get("dialect", "torch")
        try:
            return f"group {i}, dialect {dialect}: {self.rule(i)}"
        except (TypeError, ValueError) as error:
            return f"group {i}, dialect {dialect}: no step, since {error}"

    def _check(self, group: Mapping[str, Any], where: str) -> Any:
        dialect, default = group.get("dialect", "torch"), self.defaults.get("dialect", "torch")
        with told_by(type(self).__name__, where):
            dialect_of(dialect)
        if group["reference_lr"] is None:
            reference = self.defaults["lr"] if dialect == default else group["lr"]
            group = {**group, "reference_lr": reference}
        return super()._check(group, where)

    def _loaded_group(self, ours: Mapping[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
        """A group of a state dict, unless its settings would mean something else here."""
        present = ours.get("dialect", "torch")
        row, makers = dialect_of(theirs.get("dialect", present)), wrote(theirs)
        if makers and row.name not in makers:
            raise ValueError(
                f"it was written by {DIALECTS[makers[0]].label} and would be read as dialect "
                f"{row.name!r}, whose steps differ (load it into RMSProp(dialect={makers[0]!r}), "
                "or name a dialect in it)"
            )
        # Another's dict that was given a name tells nothing of what else makes that dialect.
        bare = row.name != present and "eps_place" not in theirs
        return (own_settings(row) if bare else {}) | in_our_words(row, theirs, place="state")

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._given = getattr(self, "_given", {})
        super().__setstate__(state)
