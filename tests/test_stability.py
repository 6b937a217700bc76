"""No NaN and no runaway step of the optimizer's own making, where torch has both."""

import warnings

import pytest
import torch
from torch import nn

import meansquare.family
from meansquare import RMSProp
from meansquare.kernels import cpu

Torch = torch.optim.RMSprop
LR = 1e-3
SIZES = 512
LIMIT = 1100 * LR  # the floor of the variance, v * 2**-20, bounds a step near 1024 * lr


@pytest.fixture(params=["kernels", "reference"])
def backend(request, monkeypatch):
    with warnings.catch_warnings():
        if request.param == "reference":
            monkeypatch.setattr(cpu, "native", None)
            warnings.simplefilter("ignore", RuntimeWarning)
        yield


def moves(opt, gradients):
    """How far each step goes, from the same start, so that a large weight rounds nothing off."""
    (p,) = opt.param_groups[0]["params"]
    start, far = p.detach().clone(), []
    p.grad = torch.zeros_like(p)
    for g in gradients:
        p.grad.copy_(g)
        opt.step()
        far.append((p.detach().double() - start).abs().amax())
        p.data.copy_(start)
    return torch.stack(far)


def largest(far):
    """The largest step; NaN where there is one."""
    return far.amax().item()


def walked(opt, g, steps):
    """How far the mean of the parameter has come after some steps with one gradient."""
    (p,) = opt.param_groups[0]["params"]
    start, p.grad = p.double().mean().item(), torch.full_like(p, g)
    for _ in range(steps):
        opt.step()
    return start - p.double().mean().item()


def parameter(dtype=torch.float32, n=SIZES, value=0.0):
    return nn.Parameter(torch.full((n,), value, dtype=dtype))


def nearly_constant(noise, steps, dtype=torch.float32):
    """Gradients of many sizes, each with a little noise relative to itself."""
    source = torch.Generator().manual_seed(0)
    sizes = 10 ** (6 * torch.rand(SIZES, generator=source) - 3)
    return [
        (sizes * (1 + noise * torch.randn(SIZES, generator=source))).to(dtype) for _ in range(steps)
    ]


CENTERED = {  # noise of the gradient, steps, dtype of the parameter, other options
    "constant": (0, 4000, torch.float32, {}),
    "constant_to_1e-7": (1e-7, 4000, torch.float32, {}),
    "constant_to_1e-6": (1e-6, 4000, torch.float32, {}),
    "bfloat16_and_half_noise": (0.1, 2000, torch.bfloat16, {}),
    "float16": (0, 2000, torch.float16, {}),
    "short_memory": (1e-6, 4000, torch.float32, {"alpha": 0.9}),
    "no_eps": (1e-7, 4000, torch.float32, {"eps": 0.0}),
}


@pytest.mark.parametrize(("noise", "steps", "dtype", "options"), CENTERED.values(), ids=CENTERED)
def test_centered_stays_finite_and_bounded_where_torch_runs_away(noise, steps, dtype, options):
    gradients = nearly_constant(noise, steps, dtype)
    ours, theirs = (
        moves(kind([parameter(dtype)], lr=LR, centered=True, **options), gradients)
        for kind in (RMSProp, Torch)
    )
    assert largest(ours) <= LIMIT
    assert not largest(theirs) <= LIMIT  # NaN, or a step of thousands of lr


def test_without_its_floor_centered_runs_away_too(monkeypatch, backend):
    monkeypatch.setattr(meansquare.family, "VARIANCE_FLOOR", {"float32": 0.0, "float64": 0.0})
    opt = RMSProp([parameter()], lr=LR, centered=True)
    assert not largest(moves(opt, nearly_constant(0, 4000))) <= LIMIT


def test_centered_with_momentum_is_bounded_by_the_sum_of_its_steps():
    options = {"lr": LR, "centered": True, "momentum": 0.9}
    ours, theirs = (
        moves(kind([parameter()], **options), nearly_constant(0, 4000)) for kind in (RMSProp, Torch)
    )
    assert largest(ours) <= 10 * LIMIT  # 1 / (1 - momentum)
    assert not largest(theirs) <= 10 * LIMIT


def test_centered_in_float64_is_bounded_by_its_own_floor():
    opt = RMSProp([parameter(torch.float64)], lr=LR, centered=True)
    assert largest(moves(opt, nearly_constant(0, 4000))) <= 2**24.5 * LR * 1.1


@pytest.mark.parametrize("size", [1e20, 1e25, 3e38])
@pytest.mark.parametrize(
    "options", [{}, {"bias_correction": True}, {"momentum": 0.9}, {"eps_place": "max"}]
)
def test_a_gradient_whose_square_overflows_makes_no_nan_when_centered(size, options, backend):
    torch_options = {name: value for name, value in options.items() if name == "momentum"}
    gradients = [torch.tensor(sign * size) for sign in (1.0, -1.0, 1.0)]
    ours = RMSProp([parameter()], lr=LR, centered=True, **options)
    theirs = Torch([parameter()], lr=LR, centered=True, **torch_options)
    assert largest(moves(ours, gradients)) <= LIMIT
    assert largest(moves(theirs, gradients)) <= LIMIT or size > 1e21


HALF = {"a_zero_gradient": 0.0, "a_gradient_of_1e-4": 1e-4}


@pytest.mark.parametrize("g", HALF.values(), ids=HALF)
def test_float16_keeps_an_eps_that_torch_rounds_to_zero(g, backend):
    ours, theirs = (
        moves(kind([parameter(torch.float16)], lr=LR, eps=1e-8), [torch.tensor(g)] * 3)
        for kind in (RMSProp, Torch)
    )
    assert largest(ours) <= 10.1 * LR  # 1 / sqrt(1 - alpha), and rounding to float16
    assert not theirs.isfinite().all()


ZERO = {
    "plain": {},
    "centered": {"centered": True},
    "momentum": {"momentum": 0.9, "centered": True},
    "inside": {"eps_place": "inside"},
    "max": {"eps_place": "max", "bias_correction": True, "centered": True},
}


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str
)
@pytest.mark.parametrize("options", ZERO.values(), ids=ZERO)
def test_zero_gradients_without_eps_leave_the_parameter_where_it_is(options, dtype, backend):
    zeros = [torch.zeros(())] * 3
    ours = RMSProp([parameter(dtype, value=1.0)], eps=0, **options)
    assert largest(moves(ours, zeros)) == 0
    theirs = Torch([parameter(dtype, value=1.0)], eps=0)
    assert moves(theirs, zeros).isnan().all()


@pytest.mark.parametrize("options", ZERO.values(), ids=ZERO)
@pytest.mark.parametrize("g", [1e-45, 1e-40, 1e-30, 1e-23, 1e-20, 1e-19, 3e-19])
def test_gradients_that_vanish_when_squared_make_no_runaway_step(g, options, backend):
    opt = RMSProp([parameter()], lr=LR, eps=0, **options)
    assert largest(moves(opt, [torch.tensor(g)] * 200)) <= 10 * LIMIT  # 10: momentum 0.9


def test_thousands_of_zero_gradients_after_a_large_one_stay_finite():
    gradients = [torch.tensor(1e3)] + [torch.tensor(0.0)] * 9000 + [torch.tensor(1e-3)]
    for options in ZERO.values():
        assert largest(moves(RMSProp([parameter()], lr=LR, **options), gradients)) <= LIMIT


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", [1e-20, 1.0, 1e15])
def test_buffers_decay_to_zero_and_never_rest_at_subnormal_numbers(size, dtype, backend):
    opt = RMSProp([p := parameter(dtype)], lr=LR, alpha=0.5, momentum=0.5, centered=True)
    seen = []
    for g in [size] + [0.0] * (2200 if dtype == torch.float64 else 300):
        p.grad = torch.full_like(p, g)
        opt.step()
        seen += [v.abs().max() for name, v in opt.state[p].items() if name != "step"]
    least = torch.finfo(dtype).smallest_normal
    assert not any(0 < x < least for x in seen)
    assert seen[-3:] == [0, 0, 0]


def test_a_second_moment_gone_subnormal_leaves_torchs_trajectory():
    gradients = [torch.tensor(1.0)] + [torch.tensor(0.0)] * 9000 + [torch.tensor(1e-3)] * 3
    ours, theirs = (
        moves(kind([parameter()], lr=LR, momentum=0.9), gradients) for kind in (RMSProp, Torch)
    )
    assert (theirs - ours).abs().max() <= 1e-6 * LR  # rounding of float32


def test_small_steps_add_up_in_bfloat16_where_torch_stalls():
    ours, theirs, exact = (
        walked(kind([parameter(dtype, 4096, 1.0)], lr=LR), 1.0, 500)
        for kind, dtype in (
            (RMSProp, torch.bfloat16),
            (Torch, torch.bfloat16),
            (RMSProp, torch.float64),
        )
    )
    assert exact == pytest.approx(0.624, abs=1e-3)
    assert ours == pytest.approx(
        0.624, abs=1e-3
    )  # each weight rounds at random, 4096 of them level
    assert theirs == pytest.approx(0.133, abs=1e-3)


def test_a_bfloat16_average_does_not_stall():
    ours, theirs = (
        kind([parameter(torch.bfloat16)], lr=LR, alpha=0.999) for kind in (RMSProp, Torch)
    )
    for opt in (ours, theirs):
        walked(opt, 1.0, 5000)
    (average,), (stuck,) = ([s["square_avg"] for s in opt.state.values()] for opt in (ours, theirs))
    assert average.mean().item() == pytest.approx(1 - 0.999**5000, rel=1e-4)
    assert stuck.float().mean().item() < 0.6


def test_a_nan_in_a_gradient_stays_in_its_own_element(backend):
    for options in ZERO.values():
        opt = RMSProp([p := parameter(value=1.0)], **options)
        p.grad = torch.where(torch.arange(SIZES) == 5, torch.nan, 1.0)
        for _ in range(3):
            opt.step()
        assert p.isnan().nonzero().flatten().tolist() == [5]
