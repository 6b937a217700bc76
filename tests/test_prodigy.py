"""Prodigy's estimate is prodigyopt's, and a slow twin's; a run goes on bit for bit."""

import copy
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from meansquare import SGD, Guard, RMSProp, watch
from meansquare.step_size import Prodigy

GOLDEN = json.loads((Path(__file__).parent / "golden" / "prodigy" / "prodigyopt.json").read_text())
X = torch.linspace(-2, 2, 40, dtype=torch.float64).reshape(8, 5)
Y = torch.sin(X.sum(1, keepdim=True))


def weights(dtype=torch.float64):
    made = [
        torch.linspace(-0.5, 0.5, 15, dtype=torch.float64).reshape(5, 3),
        torch.linspace(0.5, -0.5, 3, dtype=torch.float64),
        torch.linspace(-1, 1, 3, dtype=torch.float64).reshape(3, 1),
    ]
    return [nn.Parameter(t.to(dtype)) for t in made]


def loss_of(w, b, u):
    return ((torch.tanh(X.to(w) @ w + b) @ u - Y.to(w)) ** 2).mean()


def walk(params, optimizer, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(*params).backward()
        optimizer.step()


def test_it_goes_the_way_of_prodigyopt():
    """`prodigyopt.Prodigy(lr=1, betas=(0, 0.99), eps=1e-20)` on the same problem, in float64."""
    params = weights()
    optimizer = RMSProp(params, eps=1e-20)
    prodigy = Prodigy(optimizer)
    for d, *sums in GOLDEN["rows"]:
        walk(params, optimizer, 1)
        # Rounding, which a curve that is not convex makes some hundred times as large by the end.
        assert prodigy.d == pytest.approx(d, rel=1e-9)
        assert [p.sum().item() for p in params] == pytest.approx(sums, rel=1e-9, abs=1e-9)


def slow(steps, alpha, factor, d_coef, growth):
    """Algorithm 4 with beta1 = 0, v weighted by d^2, one number after the other."""
    params = weights()
    first = [p.detach().clone() for p in params]
    d = largest = 1e-6
    numerator, told = 0.0, []
    v, s = ([torch.zeros_like(p) for p in params] for _ in range(2))
    for _ in range(steps):
        gradients = torch.autograd.grad(loss_of(*params), params)
        numerator *= math.sqrt(alpha)
        weight = d / 1e-6 * d * factor
        for i, (g, p) in enumerate(zip(gradients, params, strict=True)):
            numerator += weight * float((g * (first[i] - p.detach())).sum())
            s[i] = math.sqrt(alpha) * s[i] + weight * g
            v[i] = alpha * v[i] + (1 - alpha) * (d * g) ** 2
        found = d_coef * numerator / sum(float(one.abs().sum()) for one in s)
        old = d
        d = max(d, found) if d == 1e-6 else d
        largest = max(largest, found)
        d = min(largest, d * growth)
        with torch.no_grad():
            for i, (g, p) in enumerate(zip(gradients, params, strict=True)):
                p -= factor * old * d * g / (v[i].sqrt() + 1e-30)
        told.append(d)
    return params, told


@pytest.mark.parametrize(
    ("alpha", "factor", "d_coef", "growth"),
    [(0.99, 1.0, 1.0, math.inf), (0.9, 0.5, 2.0, math.inf), (0.95, 1.0, 1.0, 1.5)],
)
def test_it_equals_a_slow_twin(alpha, factor, d_coef, growth):
    wanted, told = slow(80, alpha, factor, d_coef, growth)
    params = weights()
    optimizer = RMSProp(params, alpha=alpha, eps=1e-30)
    prodigy = Prodigy(optimizer, factor, d_coef=d_coef, growth=growth)
    for d in told:
        walk(params, optimizer, 1)
        assert prodigy.d == pytest.approx(d, rel=1e-9)  # rounding, as above
    for p, q in zip(params, wanted, strict=True):
        assert p.detach().numpy() == pytest.approx(q.detach().numpy(), rel=1e-9, abs=1e-9)


def test_the_loss_times_a_constant_changes_nothing():
    ends = []
    for scale in (1.0, 2.0**20):
        params = weights()
        optimizer = RMSProp(params, eps=0)
        Prodigy(optimizer)
        for _ in range(50):
            optimizer.zero_grad()
            (scale * loss_of(*params)).backward()
            optimizer.step()
        ends.append([p.tolist() for p in params])
    assert ends[0] == ends[1]


def test_a_scaled_loss_is_unscaled():
    ends = []
    for scale in (1.0, 2.0**12):
        params = weights(torch.float32)
        optimizer = RMSProp(params)
        Prodigy(optimizer)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        for _ in range(20):
            optimizer.zero_grad()
            scaler.scale(loss_of(*params)).backward()
            scaler.step(optimizer)
            scaler.update()
        ends.append([p.tolist() for p in params])
    assert ends[0] == ends[1]


def test_a_run_that_is_loaded_goes_on_bit_for_bit():
    params = weights()
    optimizer = RMSProp(params)
    prodigy = Prodigy(optimizer)
    walk(params, optimizer, 10)
    again = [nn.Parameter(p.detach().clone()) for p in params]
    other = RMSProp(again)
    beside = Prodigy(other)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    beside.load_state_dict(copy.deepcopy(prodigy.state_dict()))
    walk(params, optimizer, 10)
    walk(again, other, 10)
    assert all(map(torch.equal, params, again))
    assert beside.d == prodigy.d


def test_a_schedule_is_a_factor():
    params = weights()
    optimizer = RMSProp(params)
    prodigy = Prodigy(optimizer)
    walk(params, optimizer, 30)
    optimizer.param_groups[0]["lr"] = 0.0
    before = [p.detach().clone() for p in params]
    walk(params, optimizer, 1)
    assert all(map(torch.equal, params, before))
    assert optimizer.param_groups[0]["lr"] == 0.0
    assert prodigy.learning_rate == 0.0


def test_a_watcher_sees_the_rate_of_the_step():
    params, lines = weights(), []
    optimizer = RMSProp(params)
    prodigy = Prodigy(optimizer)
    watch(optimizer, every=20, to=lines.append)
    walk(params, optimizer, 20)
    assert lines[1]["lr"] == [prodigy.d]


def test_a_step_that_is_skipped_is_survived():
    params = weights()
    optimizer = RMSProp(params, guard=Guard())
    prodigy = Prodigy(optimizer)
    walk(params, optimizer, 10)
    d = prodigy.d
    for p in params:
        p.grad = torch.full_like(p, math.nan)
    optimizer.step()
    assert prodigy.d == d
    walk(params, optimizer, 20)
    assert math.isfinite(loss_of(*params).item())
    assert prodigy.d > d


def test_removed_it_leaves_the_rate_that_it_found():
    params = weights()
    optimizer = RMSProp(params)
    prodigy = Prodigy(optimizer, 0.5)
    walk(params, optimizer, 20)
    prodigy.remove()
    assert optimizer.param_groups[0]["lr"] == 0.5 * prodigy.d
    walk(params, optimizer, 1)


@pytest.mark.parametrize(
    ("made", "options", "message"),
    [
        (SGD, {}, "Prodigy: optimizer must be an RMSProp, got SGD"),
        (RMSProp, {"d0": 0.0}, "Prodigy: d0 must be finite and > 0, got 0.0"),
        (RMSProp, {"growth": 1.0}, "Prodigy: growth must be above 1, got 1.0"),
    ],
)
def test_what_it_cannot_steer_is_refused(made, options, message):
    optimizer = made(weights(), lr=0.3)
    with pytest.raises((TypeError, ValueError), match=message):
        Prodigy(optimizer, **options)
    assert optimizer.param_groups[0]["lr"] == 0.3
    with pytest.raises(ValueError, match="momentum and centered must be off, got one in group 0"):
        Prodigy(RMSProp(weights(), momentum=0.9))


def test_a_closure_is_refused_before_anything_changes():
    params = weights()
    optimizer = RMSProp(params)
    prodigy = Prodigy(optimizer)
    with pytest.raises(RuntimeError, match=r"Prodigy: step\(\) must not be given a closure"):
        optimizer.step(lambda: loss_of(*params))
    assert optimizer.param_groups[0]["lr"] == 1.0
    assert prodigy.d == prodigy.d0
