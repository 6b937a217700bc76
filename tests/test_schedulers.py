"""Every scheduler of torch drives RMSProp as it drives torch.optim.RMSprop."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler, swa_utils
from twins import apart, layouts, pair, parameters, walk

from meansquare import SGD, RMSProp

ROUNDING = 1e-5  # relative, of some 60 steps in float32


def cyclic(**options):
    return lambda opt: lr_scheduler.CyclicLR(opt, 1e-4, 1e-2, step_size_up=7, **options)


def one_cycle(**options):
    return lambda opt: lr_scheduler.OneCycleLR(opt, 1e-2, total_steps=61, **options)


def sequential(opt):
    parts = [lr_scheduler.ConstantLR(opt, 0.1, 5), lr_scheduler.ExponentialLR(opt, 0.9)]
    return lr_scheduler.SequentialLR(opt, parts, [20])


def chained(opt):
    return lr_scheduler.ChainedScheduler(
        [lr_scheduler.LinearLR(opt, 0.1, total_iters=10), lr_scheduler.StepLR(opt, 20)]
    )


SCHEDULERS = {
    "LambdaLR": [lambda opt: lr_scheduler.LambdaLR(opt, lambda t: 0.97**t)],
    "MultiplicativeLR": [lambda opt: lr_scheduler.MultiplicativeLR(opt, lambda t: 0.98)],
    "StepLR": [lambda opt: lr_scheduler.StepLR(opt, 10)],
    "MultiStepLR": [lambda opt: lr_scheduler.MultiStepLR(opt, [10, 30])],
    "ConstantLR": [lambda opt: lr_scheduler.ConstantLR(opt, 0.1, 20)],
    "LinearLR": [lambda opt: lr_scheduler.LinearLR(opt, 0.1, total_iters=30)],
    "ExponentialLR": [lambda opt: lr_scheduler.ExponentialLR(opt, 0.95)],
    "SequentialLR": [sequential],
    "CosineAnnealingLR": [lambda opt: lr_scheduler.CosineAnnealingLR(opt, 60)],
    "ChainedScheduler": [chained],
    "ReduceLROnPlateau": [lambda opt: lr_scheduler.ReduceLROnPlateau(opt, factor=0.5, patience=2)],
    "CyclicLR": [cyclic(cycle_momentum=True), cyclic(cycle_momentum=False)],
    "CosineAnnealingWarmRestarts": [
        lambda opt: lr_scheduler.CosineAnnealingWarmRestarts(opt, 10, 2)
    ],
    "OneCycleLR": [one_cycle(cycle_momentum=True), one_cycle(cycle_momentum=False)],
    "PolynomialLR": [lambda opt: lr_scheduler.PolynomialLR(opt, 60)],
    "SWALR": [lambda opt: swa_utils.SWALR(opt, 1e-4, anneal_epochs=20)],
}
MAKERS = [(name, make) for name, makes in SCHEDULERS.items() for make in makes]


def test_the_table_has_every_scheduler_of_torch():
    assert set(lr_scheduler.__all__) - {"LRScheduler"} == set(SCHEDULERS) - {"SWALR"}


@pytest.mark.parametrize("lr", [1e-2, torch.tensor(1e-2)], ids=["float_lr", "tensor_lr"])
@pytest.mark.parametrize("make", [make for _, make in MAKERS], ids=[name for name, _ in MAKERS])
def test_every_scheduler_gives_torchs_trajectory(make, lr):
    start = lr if isinstance(lr, float) else lr.clone()
    opts = pair(layouts(), lambda kind, own: kind(own, lr=start, momentum=0.9))
    if isinstance(lr, torch.Tensor):
        for opt in opts:
            opt.param_groups[0]["lr"] = lr.clone()
    schedulers = [make(opt) for opt in opts]
    for t in range(60):
        walk(opts, 1, first=t)
        for scheduler in schedulers:
            scheduler.step(
                *([1.0] if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) else [])
            )
    assert apart(opts) <= ROUNDING
    for name in ("lr", "momentum"):
        ours, theirs = (float(opt.param_groups[0][name]) for opt in opts)
        assert ours == theirs


def test_a_scheduler_may_switch_momentum_on_in_mid_run():
    opt = RMSProp(layouts(), momentum=0)
    walk((opt,), 3)
    scheduler = lr_scheduler.CyclicLR(opt, 1e-4, 1e-2, step_size_up=3, base_momentum=0.5)
    walk((opt,), 3, first=3)
    scheduler.step()
    assert all("momentum_buffer" in opt.state[p] for p in parameters(opt))


def test_a_learning_rate_of_any_kind_of_number_is_the_one_of_now():
    p = torch.zeros(1)
    p.grad, opt = torch.ones(1), SGD([p], lr=1)
    for lr in (1, 1, 0.25, 1, 1, np.float64(0.5), 1, torch.tensor(0.125), 0.25, 1):
        opt.param_groups[0]["lr"], before = lr, p.clone()
        opt.step()
        assert torch.equal(before - p, torch.full((1,), float(lr)))


def test_a_group_that_is_gone_is_gone_also_where_torch_operations_stepped_it():
    one, other = nn.Parameter(torch.ones(2)), Odd(torch.ones(2))
    opt = SGD([{"params": [one]}, {"params": [other]}], lr=0.5)
    for _ in range(2):
        one.grad = other.grad = torch.ones(2)
        opt.step()
        del opt.param_groups[1:]
    assert (one.tolist(), other.tolist()) == ([0.0, 0.0], [0.5, 0.5])


class Odd(nn.Parameter):
    """Stepped by torch operations."""
