"""`rescale`: another batch size, the same training."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from meansquare import RMSProp

FORMS = {
    "plain": {},
    "centered": {"centered": True},
    "momentum": {"momentum": 0.97},
    "lr in the buffer": {"momentum": 0.97, "lr_in_momentum": True},
    "inside": {"eps_place": "inside", "eps": 1e-6},
    "corrected": {"bias_correction": True},
    "decoupled": {"weight_decay": 0.1, "weight_decay_mode": "decoupled", "momentum": 0.95},
    "corrected decay": {"weight_decay": 0.1, "weight_decay_mode": "corrected"},
}


def one(**options):
    p = nn.Parameter(torch.ones(3, dtype=torch.float64))
    return p, RMSProp([p], **{"lr": 1e-3, "alpha": 0.998, **options})


@settings(derandomize=True, deadline=None)
@given(st.sampled_from([*FORMS]), st.integers(1, 64), st.integers(1, 64))
def test_there_and_back_all_settings_and_state_are_as_before(form, before, after):
    kappa = max(before / after, after / before)
    if "momentum" in FORMS[form] and kappa * (1 - FORMS[form]["momentum"]) >= 1:
        return
    p, optimizer = one(**FORMS[form])
    for _ in range(3):
        p.grad = torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64)
        optimizer.step()
    settings_then = dict(optimizer.param_groups[0])
    state_then = {name: t.clone() for name, t in optimizer.state[p].items()}
    optimizer.rescale(before, after)
    optimizer.rescale(after, before)
    for name, value in settings_then.items():
        if isinstance(value, float):
            # 1-alpha has lost the digits that alpha has not.
            assert optimizer.param_groups[0][name] == pytest.approx(value, rel=1e-12)
    for name, value in state_then.items():
        if name != "step" or form != "corrected":
            assert optimizer.state[p][name].tolist() == pytest.approx(value.tolist(), rel=1e-12)


def test_the_rule_is_that_of_the_square_root():
    p, optimizer = one(eps=1e-4)
    p.grad = torch.ones_like(p)
    optimizer.step()
    v = optimizer.state[p]["square_avg"].clone()
    optimizer.rescale(8, 32)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["eps"]) == (2e-3, 5e-5)
    assert group["alpha"] == pytest.approx(0.992, rel=1e-15)
    assert torch.equal(optimizer.state[p]["square_avg"], v / 4)


@pytest.mark.parametrize("form", ["decoupled", "corrected decay"])
def test_weights_decay_as_much_over_as_many_samples(form):
    _, optimizer = one(**FORMS[form])
    kept = []
    for kappa in (1, 4):
        optimizer.rescale(1, kappa)
        hyper = optimizer._checked_groups()[0]
        h = hyper.at(1, "float64")
        decay = h.lr * h.decoupled + h.lr * h.lr * h.corrected
        kept.append(decay / kappa)
    assert kept[1] == pytest.approx(kept[0], rel=1e-12)  # some roundings


def test_the_correction_of_the_start_goes_on_where_it_was():
    p, optimizer = one(bias_correction=True)
    for _ in range(1000):
        p.grad = torch.ones_like(p)
        optimizer.step()
    optimizer.rescale(1, 4)
    steps, alpha = optimizer.state[p]["step"].item(), optimizer.param_groups[0]["alpha"]
    assert steps == 249
    assert alpha**steps == pytest.approx(0.998**1000, rel=0.01)  # to half a step


def test_learning_rates_that_are_tensors_are_scaled_once_and_stay_the_same_tensors():
    p, q = (nn.Parameter(torch.ones(1)) for _ in range(2))
    rate = torch.tensor(0.5)
    optimizer = RMSProp([{"params": [p]}, {"params": [q]}], lr=rate)
    optimizer.rescale(1, 4)
    assert all(group["lr"] is rate for group in optimizer.param_groups)
    assert rate.item() == 1.0


@pytest.mark.parametrize(
    ("options", "sizes", "message"),
    [
        ({}, (0, 4), "RMSProp: rescale: batch_from must be finite and > 0, got 0"),
        ({}, (4, math.inf), "RMSProp: rescale: batch_to must be finite and > 0, got inf"),
        ({"alpha": 0.9}, (8, 80), "alpha 0.9 cannot forget 10 times as fast in group 0; batch_to "
         "must be 79 or less, got 80"),
        ({"momentum": 0.5}, (8, 16), "momentum 0.5 cannot forget 2 times as fast in group 0; "
         "batch_to must be 15 or less, got 16"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_and_nothing_changed(options, sizes, message):
    _, optimizer = one(**options)
    before = dict(optimizer.param_groups[0])
    with pytest.raises(ValueError, match=message):
        optimizer.rescale(*sizes)
    assert optimizer.param_groups[0] == before


def end(kappa, samples=1600, **options):
    """The last loss of a noisy quadratic; half way, batches become kappa times as large."""
    draws = torch.Generator().manual_seed(0)
    p = nn.Parameter(torch.full((4000,), 2.0))
    optimizer = RMSProp([p], lr=0.03, alpha=0.998, initial_square_avg=100.0, **options)
    for size in (1, kappa):
        if size > 1:
            optimizer.rescale(1, size)
        for _ in range(samples // 2 // size):
            noise = 10.0 / math.sqrt(size) * torch.randn(4000, generator=draws)
            p.grad = p.detach() + noise
            optimizer.step()
    return float(0.5 * p.detach().square().mean())


@pytest.mark.parametrize("kappa", [4, 8])
@pytest.mark.parametrize("form", ["plain", "centered", "momentum", "lr in the buffer"])
def test_after_a_switch_training_ends_as_it_would_have(form, kappa):
    # The rule is that of small steps; the lab's case square-root-scaling has 3 to 6 %.
    options = FORMS[form] | ({"momentum": 0.9} if "momentum" in FORMS[form] else {})
    assert end(kappa, **options) == pytest.approx(end(1, **options), rel=0.1)
