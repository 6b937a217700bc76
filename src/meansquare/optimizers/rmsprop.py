"""RMSProp, in all its variants."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim.optimizer import ParamsT

from meansquare.family import RMSPropHyper
from meansquare.hyper import WeightDecayMode
from meansquare.optimizers.fused import FusedOptimizer
from meansquare.spec import EpsPlace


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
        eps_place: `outside` sqrt(v)+eps, `inside` sqrt(v+eps), `max` max(sqrt(v), eps)
        nesterov: move by g/(sqrt(v)+eps) + mu*b instead of b
        lr_in_momentum: the learning rate enters the buffer (TensorFlow, Keras)
        bias_correction: divide v (and m) by 1 - alpha^t
        initial_square_avg: v before the first step (1 in TensorFlow 1)
        weight_decay_mode: `l2` adds weight_decay*p to g; `decoupled` multiplies p by
            1 - lr*weight_decay; `corrected` by 1 - lr^2/reference_lr*weight_decay
        reference_lr: largest learning rate of the schedule, for `corrected` (default: lr)
        clip_value: each element of the gradient is held within [-clip_value, clip_value] first
        max_grad_norm: all gradients are scaled so that their norm, over every group that has a
            limit, is at most this (as `torch.nn.utils.clip_grad_norm_`; for one more read of them)
        max_update_rms: an update of a tensor whose size sqrt(mean(g^2/max(v, eps^2))) is more is
            made this large (Shazeer & Stern 2018, arXiv:1804.04235; 1.0 there; for one more read of
            g and v, and of p where decay is L2)
        seed: of the stochastic rounding

    Raises:
        ValueError, TypeError: an argument out of range or of the wrong kind; at a step, a sparse
            gradient or a dtype without a rule. Nothing is changed then.

    Source: Hinton, Neural Networks for Machine Learning, lecture 6e (2012); torch 2.13,
    torch/optim/rmsprop.py; centered: Graves 2013, arXiv:1308.0850, equations 38-45.

    >>> import torch
    >>> p = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    >>> opt = RMSProp([p], lr=0.01)
    >>> p.square().sum().backward()
    >>> opt.step()
    >>> p.detach()
    tensor([0.9000, 1.9000])
    """

    _kind = RMSPropHyper

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
        fused: bool | None = None,
        eps_place: EpsPlace = "outside",
        nesterov: bool = False,
        lr_in_momentum: bool = False,
        bias_correction: bool = False,
        initial_square_avg: float = 0.0,
        weight_decay_mode: WeightDecayMode = "l2",
        reference_lr: float | None = None,
        clip_value: float | None = None,
        max_grad_norm: float | None = None,
        max_update_rms: float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(params, locals())

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, with the defaults for whatever it leaves out.

        Raises ValueError or TypeError as the constructor does; nothing is added then.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        group["reference_lr"] = self._check(group, "").reference_lr

    def _check(self, group: Mapping[str, Any], where: str) -> Any:
        if group["reference_lr"] is None:
            group = {**group, "reference_lr": group["lr"]}
        return super()._check(group, where)
