"""The sharpness equals the eigenvalue of a Hessian that is written out, and the edge is where
training diverges."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from meansquare import SGD, Adam, RMSProp, watch
from meansquare.watching.divisor import divisor, stability_limit
from meansquare.watching.sharpness import largest_eigenvalue, sharpness


def slow_eigenvalue(loss, params, divisors):
    """Of the whole matrix, made column by column."""
    sizes = [p.numel() for p in params]

    def of(flat):
        parts = flat.split(sizes)
        return loss(*(part.view_as(p) for part, p in zip(parts, params, strict=True)))

    flat = torch.cat([p.detach().reshape(-1) for p in params])
    scale = torch.cat([d.reshape(-1) for d in divisors]).rsqrt()
    hessian = torch.autograd.functional.hessian(of, flat) * scale[:, None] * scale
    return float(torch.linalg.eigvalsh(hessian)[-1])


X = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(6, 4)


def loss_of(w, b):
    return torch.tanh(X @ w + b).square().mean() + 0.1 * w.pow(4).sum()


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(0, 2**31))
def test_it_is_the_largest_eigenvalue_of_the_scaled_hessian(seed):
    torch.manual_seed(seed)
    params = [nn.Parameter(torch.randn(s, dtype=torch.float64)) for s in ((4, 3), (3,))]
    divisors = [torch.rand_like(p) + 0.01 for p in params]
    found = largest_eigenvalue(lambda: loss_of(*params), params, divisors, 40, 1e-10)
    expected = slow_eigenvalue(loss_of, params, divisors)
    assert found.value == pytest.approx(expected, rel=1e-9)  # of 15 dimensions, in float64
    assert found.products <= 15


def test_the_residual_bounds_the_distance_to_an_eigenvalue():
    values = torch.arange(1.0, 101.0, dtype=torch.float64)
    p = nn.Parameter(torch.zeros(100, dtype=torch.float64))
    found = largest_eigenvalue(lambda: 0.5 * (values * p * p).sum(), [p], [torch.ones(100)], 10, 0)
    assert found.products == 10
    assert found.error > 0
    assert min(abs(values - found.value)) <= found.error


def test_where_there_is_no_second_derivative_differences_of_gradients_are_taken():
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, gradient):
            return gradient * 2 * ctx.saved_tensors[0]

    p = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
    before = p.detach().clone()
    scale = torch.tensor([1.0, 3.0, 2.0])
    found = largest_eigenvalue(lambda: (scale * Square.apply(p)).sum(), [p], [torch.ones(3)])
    assert found.value == pytest.approx(6.0, rel=1e-3)  # float32: a third of its digits
    assert torch.equal(p, before)


def test_nothing_changes_neither_weights_nor_gradients_nor_random_state():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5), nn.Tanh(), nn.Linear(5, 1))
    optimizer = RMSProp(model.parameters())
    model(torch.ones(3, 4)).sum().backward()
    optimizer.step()
    kept = [t.detach().clone() for p in model.parameters() for t in (p, p.grad)]
    kept += [optimizer.state[p]["square_avg"].clone() for p in model.parameters()]
    chance = torch.random.get_rng_state()
    sharpness(optimizer, lambda: model(torch.ones(3, 4)).square().sum())
    now = [t for p in model.parameters() for t in (p, p.grad)]
    now += [optimizer.state[p]["square_avg"] for p in model.parameters()]
    assert all(map(torch.equal, kept, now))
    assert torch.equal(chance, torch.random.get_rng_state())


MOMENTA = {
    "plain": (RMSProp, {}),
    "momentum": (RMSProp, {"momentum": 0.9}),
    "Nesterov": (RMSProp, {"momentum": 0.9, "nesterov": True}),
    "lr in the buffer": (RMSProp, {"momentum": 0.5, "lr_in_momentum": True}),
    "inside": (RMSProp, {"eps_place": "inside", "eps": 0.1}),
    "max": (RMSProp, {"eps_place": "max"}),
    "centered": (RMSProp, {"centered": True}),
    "corrected": (RMSProp, {"bias_correction": True}),
    "gradient descent": (SGD, {}),
    "Momentum": (SGD, {"momentum": 0.9}),
    "dampened": (SGD, {"momentum": 0.5, "dampening": 0.5}),
    "Nesterov's descent": (SGD, {"momentum": 0.9, "nesterov": True}),
    "Adam": (Adam, {}),
    "torch's RMSprop": (torch.optim.RMSprop, {"momentum": 0.9, "centered": True}),
    "torch's Adam": (torch.optim.Adam, {"amsgrad": True}),
}


@pytest.mark.parametrize("share", [0.97, 1.03])
@pytest.mark.parametrize("name", MOMENTA)
def test_an_edge_of_one_is_where_a_quadratic_begins_to_diverge(name, share):
    """With the divisor held where it is, as on a time scale that is short against that of v."""
    kind, options = MOMENTA[name]
    p = nn.Parameter(torch.tensor([1.0, 1.0], dtype=torch.float64))
    curvature = torch.tensor([3.0, 0.1], dtype=torch.float64)
    optimizer = kind([p], lr=0.01, **options)

    def loss():
        return 0.5 * (curvature * p * p).sum()

    if name == "Adam" or name.startswith("torch's A"):
        # Corrections of the first steps are a rate of their own: let them pass.
        for _ in range(200):
            p.grad = torch.tensor([2.0, -1.0], dtype=torch.float64)
            optimizer.step()
    p.grad = curvature.clone()
    optimizer.step()
    found = sharpness(optimizer, loss)
    group = optimizer.param_groups[0]
    lr = group["lr"] * share / found.edge
    scale = divisor(optimizer, group, p)
    scale = torch.ones(2) if scale is None else scale
    assert grows(group, lr * curvature / scale) == (share > 1)


def grows(group, steps):
    """Whether x of the slow twin grows under steps of these sizes along each axis."""
    mu, nesterov = group.get("momentum", 0.0) or 0.0, group.get("nesterov")
    taken = 1 - (group.get("dampening") or 0.0)
    if "betas" in group:
        mu, nesterov, taken = group["betas"][0], False, 1 - group["betas"][0]
    x, b = np.ones(2), np.zeros(2)
    for _ in range(4000):
        g = steps.numpy() * x
        b = mu * b + taken * g
        x = x - (g + mu * b if nesterov else b)
        if np.abs(x).max() > 1e6:
            return True
    return bool(np.abs(x).max() > 1)


def test_groups_of_two_rates_have_one_edge():
    p, q = (nn.Parameter(torch.ones(1, dtype=torch.float64)) for _ in range(2))
    groups = [{"params": [p], "lr": 0.1}, {"params": [q], "lr": 0.4, "momentum": 0.5}]
    optimizer = SGD(groups)
    found = sharpness(optimizer, lambda: (0.5 * p * p + 0.5 * 6 * q * q).sum())
    assert found.edge == pytest.approx(0.4 * 6 / 3)
    assert found.limit == stability_limit({}) / 0.1


def test_before_the_first_step_there_is_no_second_moment():
    p = nn.Parameter(torch.ones(2))
    with pytest.raises(RuntimeError, match="RMSProp has no second moment yet; step it first"):
        sharpness(RMSProp([p]), lambda: p.sum())


def test_a_watcher_writes_the_edge(tmp_path):
    p, lines = nn.Parameter(torch.ones(2)), []
    optimizer = RMSProp([p], lr=0.01)
    watcher = watch(optimizer, to=lines.append)
    p.grad = torch.ones(2)
    optimizer.step()
    found = watcher.sharpness(lambda: p.square().sum())
    assert lines[-1] == {
        "kind": "sharpness", "step": 1, "sharpness": found.sharpness, "limit": 2 / 0.01,
        "edge": found.edge,
    }  # fmt: skip
    # v is 0.01 after one gradient of 1, and the Hessian 2: 2 / 0.1.
    assert found.sharpness == pytest.approx(20.0, rel=1e-5)  # of float32


def test_a_loss_that_is_not_finite_has_no_sharpness():
    p = nn.Parameter(torch.ones(2))
    found = largest_eigenvalue(lambda: (p * math.inf).square().sum(), [p], [torch.ones(2)])
    assert math.isnan(found.value)
