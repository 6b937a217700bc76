"""With differentiable=True autograd goes through the steps, as through torch's."""

import itertools

import pytest
import torch
from twins import apart, distance, layouts, leaves, walk

from meansquare import RMSProp

# Rounding only, relative to the size of the parameter.
TOLERANCE = {
    torch.float32: 1e-5,
    torch.complex64: 1e-5,
    torch.float64: 1e-10,
    torch.complex128: 1e-10,
}
COMBINATIONS = [
    {"momentum": momentum, "centered": centered, "weight_decay": decay, "maximize": maximize}
    for momentum, centered, decay, maximize in itertools.product(
        (0, 0.9), (False, True), (0, 0.1), (False, True)
    )
]


def words(options: dict) -> str:
    return "-".join(f"{name}={value}" for name, value in options.items() if value) or "plain"


def after_steps(kind, options, steps, weight, slope, average):
    """The weights after some steps, from which autograd finds its way back to the arguments."""
    p = weight.clone()
    opt = kind([p], differentiable=True, **options)
    opt.state[p] = {
        "step": torch.tensor(0.0),
        "square_avg": average + 1.0,
        "momentum_buffer": slope.sin(),
        "grad_avg": 0.1 * slope.cos(),
    }
    for _ in range(steps):
        p.grad = slope.square() + weight.exp()
        opt.step()
    return p


@pytest.mark.parametrize("options", COMBINATIONS, ids=words)
def test_gradients_through_differentiable_steps_equal_torchs(options):
    steps, start = 1 if options["centered"] else 3, leaves()  # torch cannot go back through more
    weights = [after_steps(kind, options, steps, *start) for kind in (RMSProp, torch.optim.RMSprop)]
    ours, theirs = (torch.autograd.grad(p.pow(3).sum(), start) for p in weights)
    assert distance(ours, theirs) <= TOLERANCE[torch.float64]


def test_gradients_through_centered_steps_are_right_where_torch_has_none():
    options, start = {"centered": True, "momentum": 0.9}, leaves()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        after_steps(torch.optim.RMSprop, options, 3, *start).sum().backward()
    assert torch.autograd.gradcheck(lambda *x: after_steps(RMSProp, options, 3, *x), start)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_differentiable_steps_give_torchs_trajectory(dtype):
    starts = layouts(dtype)
    ours, theirs = (
        kind([p.detach().clone() for p in starts], lr=1e-3, momentum=0.9, differentiable=True)
        for kind in (RMSProp, torch.optim.RMSprop)
    )
    walk((ours, theirs), 200)
    assert apart((ours, theirs)) <= TOLERANCE[dtype]
