"""What holds between the members, and what autograd sees of their steps."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from members import NAMESAKES, words
from snapshot import tensors
from torch import nn
from twins import apart, copies, layouts, leaves, pair, parameters, walk

from meansquare import SGD, AdaGrad, Adam, AdamW, RMSProp, Rprop, SignSGD

# Rounding only, relative to the size of the parameter.
TOLERANCE = {
    torch.float32: 2e-6,
    torch.complex64: 2e-6,
    torch.float64: 1e-12,
    torch.complex128: 1e-12,
}
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def cast(dtype):
    """A parameter of every layout in this dtype."""
    real = layouts(torch.float64 if dtype is torch.float64 else torch.float32)
    half = [nn.Parameter(p.detach().to(dtype)) for p in real]
    return real if dtype in (torch.float32, torch.float64) else half


def powers_of_two(t, *twins):
    """Gradients whose square and root are exact, with some zeros; the same for each of the twins"""
    source = torch.Generator().manual_seed(t)
    for same in zip(*twins, strict=True):
        shape = same[0].shape
        g = 2.0 ** torch.randint(-6, 6, shape, generator=source)
        g *= torch.randint(-1, 2, shape, generator=source)
        for p in same:
            p.grad = g.to(p.dtype, copy=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "maximize": True}], ids=str)
def test_sign_descent_is_rmsprop_that_remembers_nothing(options, dtype):
    ours = SignSGD(cast(dtype), lr=2**-7, **options)
    other = RMSProp(cast(dtype), 2**-7, 0, 0, weight_decay_mode="decoupled", **options)
    for t in range(10):
        powers_of_two(t, *map(parameters, (ours, other)))
        ours.step()
        other.step()
    assert all(map(torch.equal, parameters(ours), parameters(other)))


def test_sign_descent_moves_every_weight_by_the_learning_rate():
    opt = SignSGD([p := nn.Parameter(torch.zeros(4))], lr=0.5)
    p.grad = torch.tensor([1e-30, -1e30, 0.0, torch.inf])
    opt.step()
    assert p.tolist() == [-0.5, 0.5, 0.0, -0.5]
    assert list(opt.state[p]) == ["step"]


@pytest.mark.parametrize("options", [{}, {"amsgrad": True, "weight_decay": 0.3}], ids=str)
@pytest.mark.parametrize("dtype", [*DTYPES, torch.complex64], ids=str)
def test_adamw_is_adam_with_decoupled_decay(options, dtype):
    starts = cast(dtype) if not dtype.is_complex else layouts(dtype)
    ours = AdamW(starts, **options)
    other = Adam(copies(starts), **{"weight_decay": 1e-2} | options, decoupled_weight_decay=True)
    walk((ours, other), 10)
    assert all(map(torch.equal, tensors(ours), tensors(other)))


def test_sgd_without_momentum_keeps_no_buffer():
    opt = SGD(layouts(), weight_decay=0.1)
    walk((opt,), 3)
    assert {tuple(state) for state in opt.state.values()} == {("step",)}


def test_a_buffer_of_sgd_is_frozen_while_momentum_is_zero():
    opt = SGD(layouts(), momentum=0.9)
    walk((opt,), 3)
    kept = [opt.state[p]["momentum_buffer"].clone() for p in parameters(opt)]
    opt.param_groups[0]["momentum"] = 0
    walk((opt,), 3)
    assert all(map(torch.equal, kept, [opt.state[p]["momentum_buffer"] for p in parameters(opt)]))


def test_momentum_without_memory_of_gradients_is_plain_descent():
    ours, plain = SGD(layouts(), momentum=2**-126), SGD(layouts())
    walk((ours, plain), 5)
    assert all(map(torch.equal, parameters(ours), parameters(plain)))


RATES = {
    SGD: st.fixed_dictionaries({"momentum": st.floats(0, 0.99), "dampening": st.floats(-1, 1)}),
    AdaGrad: st.fixed_dictionaries(
        {
            "lr_decay": st.floats(0, 1),
            "initial_accumulator_value": st.floats(0, 2),
            "eps": st.floats(1e-10, 1),
        }
    ),
    Adam: st.fixed_dictionaries(
        {
            "betas": st.tuples(st.floats(0, 0.999), st.floats(0, 0.9999)),
            "eps": st.floats(1e-10, 1),
            "amsgrad": st.booleans(),
            "decoupled_weight_decay": st.booleans(),
        }
    ),
    Rprop: st.fixed_dictionaries(
        {
            "etas": st.tuples(st.floats(0.01, 0.99), st.floats(1.01, 3)),
            "step_sizes": st.tuples(st.floats(0, 1e-2), st.floats(1e-2, 10)),
        }
    ),
}
DECAY = st.fixed_dictionaries({"weight_decay": st.floats(0, 0.5)})


@given(data=st.data(), kind=st.sampled_from(list(RATES)), maximize=st.booleans())
@settings(deadline=None, max_examples=150, derandomize=True)
def test_any_settings_give_torchs_steps(data, kind, maximize):
    options = data.draw(RATES[kind]) | (data.draw(DECAY) if kind is not Rprop else {})
    lr = data.draw(st.floats(0, 0.1))
    source = torch.Generator().manual_seed(0)
    starts = [nn.Parameter(torch.randn(19, generator=source, dtype=torch.float64))]
    kinds = kind, NAMESAKES[kind]
    opts = pair(starts, kinds=kinds, lr=lr, maximize=maximize, **options)
    walk(opts, 4)
    assert apart(opts) <= TOLERANCE[torch.float64]


DIFFERENTIABLE = [
    (SGD, {"weight_decay": 0.1}),
    (SGD, {"momentum": 0.9, "dampening": 0.5}),
    (SGD, {"momentum": 0.9, "nesterov": True, "maximize": True}),
    (AdaGrad, {"lr_decay": 0.1, "weight_decay": 0.1}),
    (Adam, {"weight_decay": 0.1}),
    (Adam, {"maximize": True, "amsgrad": True}),
    (AdamW, {"weight_decay": 0.1}),
    (Rprop, {}),
    (SignSGD, {"weight_decay": 0.1}),
]
STATES = {
    SGD: ("momentum_buffer",),
    AdaGrad: ("sum",),
    Adam: ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
    AdamW: ("exp_avg", "exp_avg_sq"),
    Rprop: ("prev", "step_size"),
    SignSGD: (),
}
each_differentiable = pytest.mark.parametrize(
    ("kind", "options"), DIFFERENTIABLE, ids=[words(*case) for case in DIFFERENTIABLE]
)


def after_steps(kind, options, names, steps, weight, slope, average):
    """The weights after some steps, from which autograd finds its way back to the arguments."""
    p = weight.clone()
    opt = kind([p], lr=0.01, differentiable=True, **options)
    values = {name: average + 1.0 + 0.1 * i * slope for i, name in enumerate(names)}
    opt.state[p] = {"step": torch.tensor(1.0, dtype=torch.float64), **values}
    for _ in range(steps):
        p.grad = slope.square() + weight.exp()
        opt.step()
    return p


@each_differentiable
def test_gradients_through_differentiable_steps_are_right(kind, options):
    assert torch.autograd.gradcheck(
        lambda *x: after_steps(kind, options, STATES[kind], 3, *x), leaves()
    )


@pytest.mark.parametrize(
    ("kind", "options"), [case for case in DIFFERENTIABLE if case[0] is not SignSGD]
)
def test_gradients_through_differentiable_steps_equal_torchs(kind, options):
    start = leaves()
    kinds = kind, NAMESAKES[kind]
    weights = [after_steps(k, options, STATES[kind], 1, *start) for k in kinds]
    grads = [torch.autograd.grad(p.pow(3).sum(), start, materialize_grads=True) for p in weights]
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@each_differentiable
def test_differentiable_steps_give_the_trajectory_of_others(kind, options, dtype):
    starts = layouts(dtype)
    ours = kind([p.detach().clone() for p in starts], differentiable=True, **options)
    plain = kind(starts, **options)
    walk((ours, plain), 20)
    assert apart((ours, plain)) <= TOLERANCE[dtype]
