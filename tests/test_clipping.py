"""Gradients are held within a value or a norm as torch.nn.utils does it, but not written."""

import math

import pytest
import torch
from snapshot import tensors
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from twins import copies, distance, gradient_of, layouts, parameters, set_gradients

from meansquare import SGD, AdaGrad, Adam, AdamW, RMSProp, Rprop, SignSGD

# The norm is summed in float64 here and in float32 there; relative to the largest element.
ROUNDING = 1e-6
MEMBERS = [
    (SGD, {"lr": 0.1, "weight_decay": 0.1}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (AdaGrad, {"lr": 0.1, "maximize": True}),
    (Adam, {"amsgrad": True, "eps": 0.1, "weight_decay": 0.1}),
    (AdamW, {"eps": 0.1}),
    (Rprop, {}),
    (SignSGD, {"weight_decay": 0.1}),
    (RMSProp, {"eps": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
    (RMSProp, {"eps": 0.1, "centered": True}),
]
each_member = pytest.mark.parametrize(("kind", "options"), MEMBERS)


class Tagged(nn.Parameter):
    """What no kernel takes: it is stepped by reference."""


def tagged(p):
    return torch.Tensor._make_subclass(Tagged, p.detach(), True)


def mixed():
    """Parameters of every dtype and layout, some of them stepped by reference."""
    half = [nn.Parameter(p.detach().to(d)) for d in (torch.bfloat16, torch.float16) for p in some()]
    others = [p for d in (torch.float32, torch.float64, torch.complex64) for p in layouts(d)]
    return [*others, *half, *(tagged(p) for p in copies(some()))]


def some():
    return layouts()[3:7]


def twins_of(params):
    """The same parameters in memory of their own, and of their own classes."""
    return [
        tagged(q) if isinstance(p, Tagged) else q
        for p, q in zip(params, copies([p.detach() for p in params]), strict=True)
    ]


def pair_of(kind, params, limits, **options):
    """With limits and without; in two groups."""
    other = twins_of(params)
    return [
        kind([{"params": own[::2]}, {"params": own[1::2]}], **options, **more)
        for own, more in ((params, limits), (other, {}))
    ]


def equal(ours, theirs):
    return all(map(torch.equal, tensors(ours), tensors(theirs)))


def real(values):
    return [torch.view_as_real(v) if v.is_complex() else v for v in values]


@each_member
def test_clip_value_is_clip_grad_value_before_the_step_to_the_bit(kind, options):
    ours, theirs = pair_of(kind, mixed(), {"clip_value": 0.75}, **options)
    for t in range(5):
        set_gradients(t, *map(parameters, (ours, theirs)))
        for g in real(map(gradient_of, parameters(theirs))):  # torch clips no complex numbers
            g.clamp_(-0.75, 0.75)
        ours.step()
        theirs.step()
    assert equal(ours, theirs)


@each_member
def test_clip_value_follows_the_function_of_torch(kind, options):
    ours, theirs = pair_of(kind, layouts(), {"clip_value": 0.7}, **options)
    for t in range(5):
        set_gradients(t, *map(parameters, (ours, theirs)))
        clip_grad_value_(parameters(theirs), 0.7)
        ours.step()
        theirs.step()
    assert equal(ours, theirs)


@pytest.mark.parametrize("limit", [0.1, 3.0])
@each_member
def test_max_grad_norm_is_clip_grad_norm_before_the_step(kind, options, limit):
    params = [*layouts(), *layouts(torch.float64), *layouts(torch.complex64), *map(tagged, some())]
    ours, theirs = pair_of(kind, params, {"max_grad_norm": limit}, **options)
    for t in range(5):
        set_gradients(t, *map(parameters, (ours, theirs)))
        assert clip_grad_norm_(parameters(theirs), limit) > limit
        ours.step()
        theirs.step()
    assert distance(tensors(ours), tensors(theirs)) <= ROUNDING


def whole_numbers(t, *twins):
    """Gradients whose norm is exact however it is summed, the same for each of the twins."""
    source = torch.Generator().manual_seed(t)
    for same in zip(*twins, strict=True):
        shape = torch.view_as_real(same[0]).shape if same[0].is_complex() else same[0].shape
        g = 2.0 * torch.randint(-6, 7, shape, generator=source)
        g = torch.view_as_complex(g) if same[0].is_complex() else g
        for p in same:
            p.grad = g.to(p.dtype, copy=True)


def norm_of(params):
    squares = (g.double().square().sum().item() for g in real(map(gradient_of, params)))
    return math.sqrt(sum(squares))


@each_member
def test_gradients_of_all_dtypes_and_backends_are_scaled_alike(kind, options):
    ours, theirs = pair_of(kind, mixed(), {}, **options)
    for t in range(5):
        whole_numbers(t, *map(parameters, (ours, theirs)))
        for group in ours.param_groups:
            group["max_grad_norm"] = 0.5 * (norm_of(parameters(ours)) + 1e-6)
        for g in map(gradient_of, parameters(theirs)):
            g.mul_(0.5)
        ours.step()
        theirs.step()
    assert equal(ours, theirs)


@each_member
def test_the_norm_is_that_of_the_groups_that_limit_it(kind, options):
    ours, theirs = pair_of(kind, [*layouts(), *map(tagged, some())], {}, **options)
    ours.param_groups[1]["max_grad_norm"] = 0.5
    for t in range(5):
        set_gradients(t, *map(parameters, (ours, theirs)))
        clip_grad_norm_(theirs.param_groups[1]["params"], 0.5)
        ours.step()
        theirs.step()
    assert distance(tensors(ours), tensors(theirs)) <= ROUNDING


def test_groups_of_different_limits_are_scaled_by_one_norm():
    params = [nn.Parameter(torch.zeros(1)) for _ in range(3)]
    limits = (1.0, 0.5, None)
    groups = [{"params": [p], "max_grad_norm": m} for p, m in zip(params, limits, strict=True)]
    opt = SGD(groups, lr=1.0)
    for p, g in zip(params, (3.0, 4.0, 100.0), strict=True):
        p.grad = torch.tensor([g])
    opt.step()
    # 1e-6: clip_grad_norm_ adds as much to the norm.
    for p, moved in zip(params, (3 / 5, 0.5 * 4 / 5, 100.0), strict=True):
        assert -p.item() == pytest.approx(moved, rel=1e-6)


@each_member
def test_the_norm_is_limited_before_the_value(kind, options):
    limits = {"clip_value": 0.05, "max_grad_norm": 2.0}
    ours, theirs = pair_of(kind, layouts(), limits, **options)
    for t in range(5):
        set_gradients(t, *map(parameters, (ours, theirs)))
        clip_grad_norm_(parameters(theirs), 2.0)
        clip_grad_value_(parameters(theirs), 0.05)
        ours.step()
        theirs.step()
    assert distance(tensors(ours), tensors(theirs)) <= ROUNDING


LIMITS = [{"clip_value": 1e3}, {"max_grad_norm": 1e6}, {"clip_value": 1e3, "max_grad_norm": 1e6}]


@pytest.mark.parametrize("limits", LIMITS, ids=str)
@each_member
def test_what_stays_below_the_limits_steps_as_without_to_the_bit(kind, options, limits):
    ours, theirs = pair_of(kind, mixed(), limits, **options)
    for t in range(3):
        set_gradients(t, *map(parameters, (ours, theirs)))
        ours.step()
        theirs.step()
    assert equal(ours, theirs)


@each_member
def test_gradients_are_left_as_they_were(kind, options):
    opt = kind(mixed(), clip_value=0.1, max_grad_norm=0.5, **options)
    set_gradients(0, parameters(opt))
    before = [gradient_of(p).clone() for p in parameters(opt)]
    opt.step()
    assert all(map(torch.equal, map(gradient_of, parameters(opt)), before))


def stepped_on(number, threads, kind, options, limits):
    """Every tensor after some steps of large and small parameters on a number of threads."""
    threads(number)
    source = torch.Generator().manual_seed(0)
    sizes = (200_003, 70_001, 17, 1)
    params = [nn.Parameter(torch.randn(n, generator=source)) for n in sizes]
    params.append(nn.Parameter(torch.randn(30_001, generator=source).bfloat16()))
    opt = kind([{"params": params[:2]}, {"params": params[2:]}], **options, **limits)
    for t in range(2):
        set_gradients(t, parameters(opt))
        opt.step()
    return tensors(opt)


@pytest.mark.parametrize(
    ("kind", "options"), [case for case in MEMBERS if case[0] in (SGD, Adam, RMSProp)]
)
def test_any_number_of_threads_gives_the_same_bits(kind, options, threads):
    limits = {"clip_value": 0.5, "max_grad_norm": 100.0}
    limits |= {"max_update_rms": 0.3} if kind is not SGD else {}
    one, *others = (stepped_on(n, threads, kind, options, limits) for n in (1, 2, 3))
    assert all(all(map(torch.equal, one, other)) for other in others)


@pytest.mark.parametrize("wrap", [lambda p: p, tagged], ids=["kernel", "reference"])
@each_member
def test_nan_passes_through_a_limit_on_values_and_infinity_does_not(kind, options, wrap):
    opt = kind([wrap(p := nn.Parameter(torch.ones(5)))], clip_value=0.5, **options)
    other = kind([q := nn.Parameter(torch.ones(5))], **options)
    p = parameters(opt)[0]
    p.grad = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.25, 0.0])
    q.grad = torch.tensor([torch.nan, 0.5, -0.5, 0.25, 0.0])
    opt.step()
    other.step()
    assert p.isnan().tolist() == [True, False, False, False, False]
    # torch's sqrt is not correctly rounded where a parameter is stepped by reference.
    assert distance([p[1:].as_subclass(torch.Tensor)], [q[1:]]) <= ROUNDING


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("wrap", [lambda p: p, tagged], ids=["kernel", "reference"])
def test_a_norm_that_is_not_finite_does_what_clip_grad_norm_does(bad, wrap):
    ours, theirs = ([nn.Parameter(torch.ones(3)), wrap(torch.ones(2))] for _ in range(2))
    for params in (ours, theirs):
        params[0].grad = torch.tensor([bad, 1.0, 2.0])
        params[1].grad = torch.ones(2)
    SGD(ours, lr=1.0, max_grad_norm=1.0).step()
    clip_grad_norm_(theirs, 1.0)
    torch.optim.SGD(theirs, lr=1.0).step()
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a.isnan(), b.isnan())
        assert torch.equal(a.nan_to_num(), b.nan_to_num())


@pytest.mark.parametrize("kind", [nn.Parameter, tagged])
@pytest.mark.parametrize("eps", [0.0, 1e-6, 0.5])
def test_what_is_added_to_the_norm_is_as_told(kind, eps):
    """At alpha 0 and a large eps a step is nearly the scaled gradient over eps."""
    p = kind(torch.zeros(2, dtype=torch.float64))
    opt = RMSProp([p], lr=1.0, alpha=0.0, eps=1e9, max_grad_norm=1.0, grad_norm_eps=eps)
    p.grad = torch.tensor([3.0, -4.0], dtype=torch.float64)
    opt.step()
    scaled = p.grad / (5 + eps)
    assert torch.allclose(p.detach() * -1e9, scaled, rtol=1e-8)  # v is 1e-9 of eps


@pytest.mark.parametrize("kind", [nn.Parameter, tagged])
def test_no_gradient_has_a_norm_of_zero_and_is_left_alone(kind):
    p = kind(torch.ones(2))
    opt = RMSProp([p], max_grad_norm=1.0, grad_norm_eps=0.0)
    p.grad = torch.zeros(2)
    opt.step()
    assert torch.equal(p.detach(), torch.ones(2))
