"""Descent by a learning rate for each weight: what RMSProp came from, and what came of it."""

from typing import Any

from torch import Tensor
from torch.optim.optimizer import ParamsT

from meansquare.family import AdaGradHyper, AdamHyper
from meansquare.guarding import Guard
from meansquare.optimizers.fused import FusedOptimizer


class AdaGrad(FusedOptimizer):
    r"""AdaGrad: a drop-in for `torch.optim.Adagrad`.

    s = s + g^2;  p = p - lr/(1 + (t-1)*lr_decay)*g/(sqrt(s)+eps)

    State: `sum`, in the dtypes that RMSProp has them, made at the first step.

    Args:
        params: parameters, named parameters or dicts of groups, as torch.optim takes them
        lr: learning rate, a number or a tensor of one element
        lr_decay: how fast the learning rate falls with the steps
        weight_decay: L2 penalty
        initial_accumulator_value: s before the first step
        eps: added to the denominator
        and the rest: as RMSProp has them

    Raises:
        ValueError, TypeError: as RMSProp does.

    Source: Duchi, Hazan & Singer 2011, JMLR 12; torch 2.13, torch/optim/adagrad.py.
    """

    _kind = AdaGradHyper

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        clip_value: float | None = None,
        max_grad_norm: float | None = None,
        rank_local: bool = False,
        seed: int = 0,
        guard: Guard | None = None,
    ) -> None:
        super().__init__(params, locals())

    def share_memory(self) -> None:
        """Move the sums of squares into shared memory, for processes that train one model."""
        self._prepare([p for group in self.param_groups for p in group["params"]])
        for state in self.state.values():
            state["sum"].share_memory_()


class Adam(FusedOptimizer):
    r"""Adam: a drop-in for `torch.optim.Adam`.

    m = beta1*m + (1-beta1)*g;  v = beta2*v + (1-beta2)*g^2
    p = p - lr*m/(1-beta1^t) / (sqrt(v/(1-beta2^t))+eps)

    State: `exp_avg`, `exp_avg_sq` and with amsgrad `max_exp_avg_sq`, in the dtypes that RMSProp has
    them.

    Args:
        params: parameters, named parameters or dicts of groups, as torch.optim takes them
        lr: learning rate, a number or a tensor of one element
        betas: decay of the averages m and v, each in [0, 1)
        eps: added to the denominator
        weight_decay: L2 penalty, or decoupled
        amsgrad: divide by the largest v so far
        decoupled_weight_decay: multiply p by 1 - lr*weight_decay instead of an L2 penalty
        and the rest: as RMSProp has them

    Raises:
        ValueError, TypeError: as RMSProp does.

    Source: Kingma & Ba 2015, arXiv:1412.6980; amsgrad: Reddi et al. 2018, arXiv:1904.09237; torch
    2.13, torch/optim/adam.py.
    """

    _kind = AdamHyper

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        clip_value: float | None = None,
        max_grad_norm: float | None = None,
        rank_local: bool = False,
        max_update_rms: float | None = None,
        seed: int = 0,
        guard: Guard | None = None,
    ) -> None:
        super().__init__(params, locals())


class AdamW(FusedOptimizer):
    r"""Adam with decoupled weight decay: a drop-in for `torch.optim.AdamW`.

    p = (1 - lr*weight_decay)*p, then Adam's step without a penalty in the gradient

    State as Adam's.

    Args:
        params: parameters, named parameters or dicts of groups, as torch.optim takes them
        lr: learning rate, a number or a tensor of one element
        betas: decay of the averages m and v, each in [0, 1)
        eps: added to the denominator
        weight_decay: share of p that a step of lr = 1 takes away
        amsgrad: divide by the largest v so far
        and the rest: as RMSProp has them

    Raises:
        ValueError, TypeError: as RMSProp does.

    Source: Loshchilov & Hutter 2019, arXiv:1711.05101; torch 2.13, torch/optim/adamw.py.
    """

    _kind = AdamHyper

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        clip_value: float | None = None,
        max_grad_norm: float | None = None,
        rank_local: bool = False,
        max_update_rms: float | None = None,
        seed: int = 0,
        guard: Guard | None = None,
    ) -> None:
        super().__init__(params, locals() | {"decoupled_weight_decay": True})

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True  # whatever a state dict of Adam says
