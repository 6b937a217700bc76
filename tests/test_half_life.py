"""A half-life halves, whatever it is counted in and however irregular the steps."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from meansquare import SGD, Adam, RMSProp
from meansquare.step_size import HalfLife

AMOUNT = st.floats(1e-3, 1e3)


def one(kind=RMSProp, **options):
    p = nn.Parameter(torch.ones(1, dtype=torch.float64))
    return p, kind([p], **options)


def step(p, optimizer, gradient):
    p.grad = torch.full_like(p, gradient)
    optimizer.step()
    return optimizer.state[p]["square_avg"].item()


@settings(derandomize=True, deadline=None)
@given(AMOUNT, st.sampled_from(["samples", "tokens", "seconds"]))
def test_after_a_half_life_without_gradients_half_of_v_is_left(half_life, unit):
    p, optimizer = one()
    v = step(p, optimizer, 3.0)
    HalfLife(optimizer, half_life, unit).passed(half_life)
    assert step(p, optimizer, 0.0) == v / 2


@settings(derandomize=True, deadline=None)
@given(st.floats(1.0, 1e5))
def test_in_steps_it_is_set_once(half_life):
    _, optimizer = one()
    HalfLife(optimizer, half_life)
    assert optimizer.param_groups[0]["alpha"] == 0.5 ** (1 / half_life)


@settings(derandomize=True, deadline=None)
@given(AMOUNT, AMOUNT, st.floats(1.0, 1e4))
def test_what_passes_in_two_parts_decays_as_in_one(first, second, half_life):
    _, optimizer = one()
    life = HalfLife(optimizer, half_life, "samples")
    decays = []
    for amount in (first, second, first + second):
        life.passed(amount)
        decays.append(life.alpha)
    assert decays[0] * decays[1] == pytest.approx(decays[2], rel=1e-13)  # three roundings


def test_v_of_an_irregular_stream_is_the_exponential_kernel():
    """v at a time is the sum of what came, halved for each half-life since, as NumPy adds it."""
    chance = np.random.default_rng(0)
    times = np.cumsum(chance.exponential(2.0, 200))
    gradients = chance.normal(size=200)
    p, optimizer = one()
    life = HalfLife(optimizer, 7.0, "seconds")
    shares = []
    for gap, gradient in zip(np.diff(times, prepend=0.0), gradients, strict=True):
        life.passed(gap)
        shares.append(1 - 0.5 ** (gap / 7.0))
        v = step(p, optimizer, gradient)
    kernel = 0.5 ** ((times[-1] - times) / 7.0)
    assert v == pytest.approx((kernel * shares * gradients**2).sum(), rel=1e-12)  # 200 roundings


def test_seconds_are_measured_where_none_are_told(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    _, optimizer = one()
    life = HalfLife(optimizer, 10.0, "seconds")
    for seconds in (10.0, 20.0):
        now[0] += seconds
        life.passed()
        assert life.alpha == 0.5 ** (seconds / 10.0)


def test_of_two_betas_the_second_is_set():
    _, optimizer = one(Adam)
    HalfLife(optimizer, 100)
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.5**0.01)


def test_torchs_rmsprop_takes_it_too():
    p = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.RMSprop([p])
    HalfLife(optimizer, 1)
    assert optimizer.param_groups[0]["alpha"] == 0.5


def test_its_settings_are_loaded():
    _, optimizer = one()
    life, other = HalfLife(optimizer, 10, "tokens"), HalfLife(optimizer, 5)
    other.load_state_dict(life.state_dict())
    other.passed(10)
    assert other.alpha == 0.5


@pytest.mark.parametrize(
    ("arguments", "amount", "message"),
    [
        ((0, "steps"), None, "HalfLife: half_life must be finite and > 0, got 0"),
        ((math.inf,), None, "HalfLife: half_life must be finite and > 0, got inf"),
        ((5, "epochs"), None, "HalfLife: unit must be one of"),
        ((5, "samples"), None, "HalfLife: passed needs the number of samples, got none"),
        ((5, "samples"), 0, "HalfLife: amount must be finite and > 0, got 0"),
        ((1e20, "samples"), 1, "HalfLife: amount must be above 1e-16 of the half-life 1e[+]20"),
    ],
)
def test_what_is_wrong_is_refused_and_the_decay_stays(arguments, amount, message):
    _, optimizer = one(alpha=0.7)
    with pytest.raises(ValueError, match=message):
        HalfLife(optimizer, *arguments).passed(amount)
    assert optimizer.param_groups[0]["alpha"] == 0.7


def test_an_optimizer_without_a_decay_is_refused():
    with pytest.raises(TypeError, match="HalfLife: optimizer must have alpha or betas, got SGD"):
        HalfLife(one(SGD)[1], 5)
