"""With autocast and a GradScaler a run is the plain one, and an overflow advances nothing."""

import pytest
import torch
from snapshot import contents
from torch import nn
from torch.nn.utils import clip_grad_norm_
from twins import distance, kernels_of

from meansquare import SGD, AdaGrad, Adam, RMSProp
from meansquare.kernels import cpu

KINDS = [
    (RMSProp, {"momentum": 0.9, "centered": True, "weight_decay": 0.1}),
    (RMSProp, {"dialect": "steady", "lr": 1e-2}),
    (RMSProp, {"momentum": 0.9, "cautious": True, "clip_value": 0.5}),
    (SGD, {"momentum": 0.9}),
    (AdaGrad, {}),
    (Adam, {}),
]
each_kind = pytest.mark.parametrize(("kind", "options"), KINDS)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))


def batch(t):
    source = torch.Generator().manual_seed(t)
    return torch.randn(32, 8, generator=source), torch.randn(32, 1, generator=source)


def scaler(**options):
    return torch.amp.GradScaler("cpu", **{"init_scale": 2.0**12, "growth_interval": 3} | options)


def trained(kind, options, scale=None, steps=10, spoil=(), dtype=None, before=None):
    """A network after some steps, those in `spoil` with a gradient that is not finite."""
    model = network() if dtype is None else network().to(dtype)
    opt = kind(model.parameters(), **options)
    for t in range(steps):
        x, y = (one if dtype is None else one.to(dtype) for one in batch(t))
        opt.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        (loss if scale is None else scale.scale(loss)).backward()
        if t in spoil:
            model[0].weight.grad[0, 0] = float("inf")
        if scale is None:
            if t not in spoil:
                opt.step()
            continue
        if before is not None:
            before(scale, opt)
        scale.step(opt)
        scale.update()
    return opt


def params(opt):
    return opt.param_groups[0]["params"]


@pytest.mark.parametrize("spoil", [(), (0,), (3, 4, 9)])
@each_kind
def test_a_scaled_run_is_the_plain_one_bit_for_bit(kind, options, spoil):
    plain = trained(kind, options, spoil=spoil)
    scaled = trained(kind, options, scaler(), spoil=spoil)
    assert kernels_of(scaled) == {"cpu"}  # scales are powers of two: nothing is rounded
    for p, q in zip(params(plain), params(scaled), strict=True):
        assert torch.equal(p, q)
        for name, value in plain.state[p].items():
            assert torch.equal(value, scaled.state[q][name])


@each_kind
def test_it_unscales_as_torch_would_where_the_scale_is_no_power_of_two(kind, options):
    odd = {"init_scale": 1000.3, "growth_factor": 1.7, "backoff_factor": 0.3}
    ours = trained(kind, options, scaler(**odd), spoil=(4,))
    theirs = trained(kind, options, scaler(**odd), spoil=(4,), before=lambda s, o: s.unscale_(o))
    assert distance(params(ours), params(theirs)) == 0


def test_what_the_user_unscaled_is_not_unscaled_again():
    def clip(scale, opt):
        scale.unscale_(opt)
        clip_grad_norm_(params(opt), 0.1)

    options = {"alpha": 0.9, "eps": 1e-4}
    scaled = trained(RMSProp, options, scaler(), before=clip)
    plain = trained(RMSProp, options | {"max_grad_norm": 0.1})
    assert distance(params(scaled), params(plain)) < 1e-5  # the norm is summed in float64 in ours


@pytest.mark.parametrize("limit", [{"max_grad_norm": 0.1}, {"max_update_rms": 0.5}])
def test_limits_hold_of_what_is_unscaled(limit):
    options = {"alpha": 0.9, "eps": 1e-4} | limit
    plain, scaled = trained(RMSProp, options), trained(RMSProp, options, scaler())
    assert distance(params(plain), params(scaled)) < 1e-6  # sums of scaled numbers, unscaled
    free = trained(RMSProp, {"alpha": 0.9, "eps": 1e-4})
    assert distance(params(free), params(plain)) > 1e-3  # the limit is in force


def test_an_overflow_leaves_everything_as_it_was_and_lowers_the_scale():
    model = network()
    opt, scale = RMSProp(model.parameters(), momentum=0.9), scaler()
    x, y = batch(0)
    for spoiled in (False, True):
        opt.zero_grad()
        scale.scale(nn.functional.mse_loss(model(x), y)).backward()
        if spoiled:
            params(opt)[-1].grad.fill_(float("nan"))
        before, grads = contents(opt), [p.grad.clone() for p in params(opt)]
        was = scale.get_scale()
        scale.step(opt)
        scale.update()
        assert (contents(opt) == before) == spoiled
        assert (scale.get_scale() < was) == spoiled
        unwritten = zip(params(opt), grads, strict=True)
        assert all(torch.equal(p.grad, g) for p, g in unwritten if not spoiled)
    assert not {"grad_scale", "found_inf"} & vars(opt).keys()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_are_unscaled_in_float32(dtype):
    """A gradient that is nothing in the weight's own format once it is unscaled still counts."""
    p = nn.Parameter(torch.ones(4, dtype=dtype))
    opt = RMSProp([p], lr=0.25, eps=0.0)
    p.grad = torch.full_like(p, 2.0**-10)
    opt.grad_scale, opt.found_inf = torch.tensor(2.0**20), torch.tensor(0.0)
    opt.step()
    assert opt.state[p]["square_avg"].dtype == torch.float32
    assert torch.allclose(p.float(), torch.full((4,), -1.5), atol=0.02)  # the format's own digits


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_scaled_run_of_half_precision_is_the_plain_one(dtype):
    exact = {"init_scale": 2.0**4, "growth_interval": 100}  # no gradient leaves the format
    plain = trained(RMSProp, {"lr": 1e-3}, dtype=dtype)
    scaled = trained(RMSProp, {"lr": 1e-3}, scaler(**exact), dtype=dtype)
    assert kernels_of(scaled) == {"cpu"}
    assert distance(params(plain), params(scaled)) < 0.02  # subnormals of float16 are finer scaled


def test_under_autocast_it_trains():
    model = network()
    opt, scale = RMSProp(model.parameters(), lr=3e-3), scaler()
    losses = []
    for _ in range(60):
        x, y = batch(0)
        opt.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nn.functional.mse_loss(model(x), y)
        scale.scale(loss).backward()
        scale.step(opt)
        scale.update()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


class Tagged(nn.Parameter):
    """What no kernel takes: it is stepped by torch operations."""


def tagged(p):
    return torch.Tensor._make_subclass(Tagged, p, True)


@pytest.mark.parametrize("kinds", [(nn.Parameter,) * 2, (tagged, nn.Parameter), (tagged, tagged)])
@pytest.mark.parametrize("options", [{}, {"max_grad_norm": 0.1}])
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.filterwarnings("ignore:meansquare. C.. kernels")
def test_torch_operations_unscale_too(options, kinds, compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(cpu, "native", None)

    def stepped(scale):
        tensors = (torch.linspace(-1, 1, 10), torch.ones(3))
        opt = RMSProp([kind(p) for kind, p in zip(kinds, tensors, strict=True)], eps=0.1, **options)
        for p in params(opt):
            p.grad = torch.linspace(1, 2, p.numel()) * scale
        opt.grad_scale, opt.found_inf = torch.tensor(scale), torch.tensor(0.0)
        opt.step()
        return params(opt)

    assert distance(stepped(1.0), stepped(1024.0)) < 1e-6  # sums of scaled numbers, unscaled
