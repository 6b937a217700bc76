"""Descent by one learning rate for all weights, and by signs alone."""

from torch import Tensor
from torch.optim.optimizer import ParamsT

from meansquare.family import RpropHyper, SGDHyper, SignSGDHyper
from meansquare.guarding import Guard
from meansquare.optimizers.fused import FusedOptimizer


class SGD(FusedOptimizer):
    r"""Gradient descent, with Momentum and Nesterov's: a drop-in for `torch.optim.SGD`.

    p = p - lr*g;  with momentum b = mu*b + (1-dampening)*g, p = p - lr*b

    The buffer begins with the whole first gradient. State: `momentum_buffer` where momentum is not
    0, in the dtypes that RMSProp has them.

    Args:
        params: parameters, named parameters or dicts of groups, as torch.optim takes them
        lr: learning rate, a number or a tensor of one element
        momentum: factor mu of the buffer b; 0 keeps none
        dampening: what the gradient loses on its way into the buffer
        weight_decay: L2 penalty
        nesterov: move by g + mu*b instead of b
        and the rest: as RMSProp has them

    Raises:
        ValueError, TypeError: as RMSProp does.

    Source: Polyak 1964; Sutskever et al. 2013; torch 2.13, torch/optim/sgd.py.
    """

    _kind = SGDHyper

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float | Tensor = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        clip_value: float | None = None,
        max_grad_norm: float | None = None,
        rank_local: bool = False,
        seed: int = 0,
        guard: Guard | None = None,
    ) -> None:
        # Later momentum may be 0 for a while, as in torch.
        if nesterov is True and momentum == 0:
            raise ValueError("SGD: momentum must be > 0 where nesterov is True, got 0")
        super().__init__(params, locals())


class Rprop(FusedOptimizer):
    r"""Rprop, for gradients of the full batch: a drop-in for `torch.optim.Rprop`.

    size = size*eta_plus while g keeps its sign, size*eta_minus when it turns;  p = p - size*sign(g)

    After a turn a weight rests for a step. State: `prev`, `step_size`, in the dtypes that RMSProp
    has them.

    Args:
        params: parameters, named parameters or dicts of groups, as torch.optim takes them
        lr: the first step of every weight, a number or a tensor of one element
        etas: (eta_minus, eta_plus)
        step_sizes: the least and the largest step
        and the rest: as RMSProp has them

    Raises:
        ValueError, TypeError: as RMSProp does.

    Source: Riedmiller & Braun 1993; torch 2.13, torch/optim/rprop.py.
    """

    _kind = RpropHyper

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        clip_value: float | None = None,
        max_grad_norm: float | None = None,
        rank_local: bool = False,
        seed: int = 0,
        guard: Guard | None = None,
    ) -> None:
        super().__init__(params, locals())


class SignSGD(FusedOptimizer):
    r"""Sign descent: every weight moves by the learning rate, whatever the size of its gradient.

    p = (1 - lr*weight_decay)*p - lr*sign(g)

    It is RMSProp at alpha = 0. No state but the count of steps.

    Args:
        params: parameters, named parameters or dicts of groups, as torch.optim takes them
        lr: learning rate, a number or a tensor of one element
        weight_decay: decoupled: the share of p that a step of lr = 1 takes away
        and the rest: as RMSProp has them

    Raises:
        ValueError, TypeError: as RMSProp does.

    Source: Bernstein et al. 2018, arXiv:1802.04434.
    """

    _kind = SignSGDHyper

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        clip_value: float | None = None,
        max_grad_norm: float | None = None,
        rank_local: bool = False,
        seed: int = 0,
        guard: Guard | None = None,
    ) -> None:
        super().__init__(params, locals())
