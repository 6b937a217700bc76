"""A learning rate is found on a copy: training afterwards is as if nobody had asked."""

import math
import random
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from meansquare import SGD, Adam, Guard, RMSProp, suggest_lr
from meansquare.step_size.range_test import SMOOTH, range_test, suggested
from meansquare.step_size.stability import stable_rate
from meansquare.step_size.suggest import SHARE_OF_STABLE, Method, Suggestion, suggestion

DATA = TensorDataset(torch.randn(64, 6, generator=torch.Generator().manual_seed(3)))
QUICK: dict[str, Any] = {"seeds": 2, "steps": 20, "warmup": 5}


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 1)
    )


def loss_of(model, batch):
    (x,) = batch
    return (model(x) - x.sum(1, keepdim=True)).square().mean()


class Shuffled:
    """A sampler with NumPy's generator, or Python's."""

    def __init__(self, numbers):
        self.numbers = numbers

    def __iter__(self):
        order = list(range(len(DATA)))
        self.numbers.shuffle(order)
        return iter(order)

    def __len__(self):
        return len(DATA)


LOADERS = {
    "global order": lambda: DataLoader(DATA, 8, shuffle=True),
    "own generator": lambda: DataLoader(
        DATA, 8, shuffle=True, generator=torch.Generator().manual_seed(5)
    ),
    "own sampler": lambda: DataLoader(
        DATA, 8, sampler=RandomSampler(DATA, generator=torch.Generator().manual_seed(7))
    ),
    "own batch sampler": lambda: DataLoader(
        DATA,
        batch_sampler=BatchSampler(
            RandomSampler(DATA, generator=torch.Generator().manual_seed(7)), 8, drop_last=False
        ),
    ),
    "NumPy's order": lambda: DataLoader(DATA, 8, sampler=Shuffled(np.random.default_rng(2))),
    "NumPy's old order": lambda: DataLoader(DATA, 8, sampler=Shuffled(np.random.RandomState(2))),
    "Python's order": lambda: DataLoader(DATA, 8, sampler=Shuffled(random.Random(2))),
    "workers that persist": lambda: DataLoader(
        DATA, 8, shuffle=True, num_workers=1, persistent_workers=True
    ),
    "a list": lambda: [(x[0][None].expand(2, -1),) for x in DATA],
}
MAKERS = {
    "RMSProp": lambda params: RMSProp(params, momentum=0.9, guard=Guard()),
    "Adam": lambda params: Adam(params),
    "torch's RMSprop": lambda params: torch.optim.RMSprop(params, centered=True),
    "torch's SGD": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
}


def trained(maker, loader, asks):
    """Two epochs, in the first of which somebody asks or does not; everything that may differ."""
    model = network()
    optimizer = MAKERS[maker](model.parameters())
    called = []
    optimizer.register_step_post_hook(lambda *_: called.append(1))
    batches = LOADERS[loader]()
    random.seed(1)
    np.random.seed(1)
    for epoch in range(2):
        for i, batch in enumerate(batches):
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            if asks and (epoch, i) == (0, 3):
                suggest_lr(model, optimizer, loss_of, batches, method="both", **QUICK)
            optimizer.step()
    held = [*model.state_dict().values(), *(p.grad for p in model.parameters())]
    held += [t for p in model.parameters() for t in optimizer.state[p].values()]
    tensors = [t.tolist() for t in held if isinstance(t, torch.Tensor)]
    drawn = torch.rand(1).item(), random.random(), float(np.random.rand())
    return tensors, drawn, len(called), optimizer.param_groups[0]["lr"], model.training


@pytest.mark.parametrize(
    ("maker", "loader"),
    [*((maker, "global order") for maker in MAKERS), *(("RMSProp", loader) for loader in LOADERS)],
)
def test_asking_in_the_midst_of_an_epoch_changes_nothing(maker, loader):
    assert trained(maker, loader, asks=True) == trained(maker, loader, asks=False)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_exception_on_the_way_changes_nothing(error):
    model, batches = network(), LOADERS["global order"]()
    optimizer = RMSProp(model.parameters())
    before = {name: t.clone() for name, t in model.state_dict().items()}
    torch.manual_seed(9)
    expected = torch.rand(1)
    torch.manual_seed(9)
    calls = []

    def breaks(own, batch):
        calls.append(1)
        if len(calls) == 7:
            raise error
        return loss_of(own, batch)

    with pytest.raises(error):
        suggest_lr(model, optimizer, breaks, batches, **QUICK)
    assert all(torch.equal(t, model.state_dict()[name]) for name, t in before.items())
    assert torch.equal(torch.rand(1), expected)


def test_a_loss_that_uses_the_original_is_refused_and_changes_nothing():
    model, batches = network(), LOADERS["own generator"]()
    optimizer = RMSProp(model.parameters())
    before = {name: t.clone() for name, t in model.state_dict().items()}
    with pytest.raises(ValueError, match="suggest_lr: loss must use the model that it is given"):
        suggest_lr(model, optimizer, lambda _, batch: loss_of(model, batch), batches, **QUICK)
    assert all(torch.equal(t, model.state_dict()[name]) for name, t in before.items())
    assert all(p.grad is None for p in model.parameters())


def quadratic(curvature, noise=0.0, **options):
    """Begins a training on a bowl of these curvatures from 1, with gradient noise."""

    def begin(seed):
        draws = torch.Generator().manual_seed(seed)
        p = nn.Parameter(torch.ones(len(curvature), dtype=torch.float64))
        scale = torch.tensor(curvature, dtype=torch.float64)

        def losses():
            while True:
                shift = noise * torch.randn(len(curvature), generator=draws, dtype=torch.float64)
                yield (0.5 * scale * p * p + shift * p).sum()

        return options.get("made", SGD)([p], **{"lr": 0.1, **options.get("settings", {})}), losses()

    return begin


@settings(derandomize=True, deadline=None)
@given(st.lists(st.floats(0.01, 100.0), min_size=1, max_size=5), st.floats(0.0, 0.95))
def test_the_stable_rate_of_gradient_descent_is_known(curvature, momentum):
    begin = quadratic(curvature, settings={"momentum": momentum})
    found = stable_rate(begin, 1, warmup=3)
    # Lanczos ends at a residual of one per cent.
    assert found.rate == pytest.approx(2 * (1 + momentum) / max(curvature), rel=0.011)


def test_the_stable_rate_of_rmsprop_has_its_second_moment_in_it():
    """Gradients are h*x with x at 1 while it is warmed: sqrt(v) is h, and 2/lambda is 2."""
    begin = quadratic([4.0, 0.3], made=RMSProp)
    assert stable_rate(begin, 1, warmup=10).rate == pytest.approx(2.0, rel=0.011)


def test_where_the_loss_curves_downwards_nothing_is_the_most_that_is_stable():
    assert stable_rate(quadratic([-1.0]), 1, warmup=3).rate is None


def test_a_range_test_stops_before_it_overflows_and_suggests_less_than_diverges():
    curve = range_test(quadratic([10.0, 1.0], noise=0.1), 1, 1e-6, 1e6, 120, 10)
    assert len(curve.losses) < 120
    assert curve.rate is not None
    assert 1e-3 < curve.rate < 0.2  # 2/h is where it diverges
    assert curve.steps == 10 + len(curve.losses)


@settings(derandomize=True, deadline=None)
@given(st.integers(0, 2**20), st.sampled_from([2.0**-10, 2.0**10]))
def test_a_loss_times_a_constant_has_the_same_rate_under_rmsprop(seed, scale):
    def begin_of(factor):
        begin = quadratic([3.0, 1.0], noise=0.3, made=RMSProp, settings={"eps": 0.0})

        def scaled(seed):
            optimizer, losses = begin(seed)
            return optimizer, (factor * loss for loss in losses)

        return scaled

    curves = [range_test(begin_of(f), seed, 1e-5, 10.0, 60, 10) for f in (1.0, scale)]
    assert curves[0].rate == curves[1].rate


def test_a_loss_that_does_not_fall_suggests_nothing():
    begin = quadratic([0.0, 0.0], noise=1.0)
    found = suggestion(begin, "range", (1, 2, 3))
    assert found.lr is None or found.lr > 0
    flat = [1.0, 0.99, 1.01, 1.0]
    assert suggested([1e-3, 1e-2, 1e-1, 1.0], flat, 1.0, 0.1) is None
    assert suggested([], [], 1.0, 0.1) is None
    told = str(Suggestion(None, None, None, 0.5, found.curves, 10, 0.1))
    assert told == "no learning rate lowers the loss by more than its noise; stable up to 0.5 " \
        "(10 steps, 0.1 s)"  # fmt: skip
    told = str(Suggestion(None, None, None, None, (), 10, 0.1))
    assert told == "no largest stable rate: the loss curves nowhere upwards (10 steps, 0.1 s)"


@settings(derandomize=True, deadline=None)
@given(st.lists(st.floats(0.0, 10.0), min_size=1, max_size=50))
def test_what_is_suggested_is_where_half_of_the_fall_is_made(level):
    rates = [10.0 ** (i / 10) for i in range(len(level))]
    found = suggested(rates, level, 10.0, 0.0)
    lowest = min(level)
    if lowest >= 10.0:
        assert found is None
    else:
        assert found is not None
        place = rates.index(found)
        assert level[place] <= 10.0 - (10.0 - lowest) / 2
        assert all(value > 10.0 - (10.0 - lowest) / 2 for value in level[:place])


def test_the_noise_of_a_running_mean_is_that_of_its_formula():
    draws = np.random.default_rng(0).normal(size=200_000)
    now, told = 0.0, []
    for x in draws:
        now = SMOOTH * now + (1 - SMOOTH) * x
        told.append(now)
    assert np.std(told) == pytest.approx(math.sqrt((1 - SMOOTH) / (1 + SMOOTH)), rel=0.02)


def test_the_interval_is_that_of_the_seeds_and_the_methods_combine():
    model, batches = network(), LOADERS["global order"]()
    optimizer = RMSProp(model.parameters())
    ranged, metered, both = (
        suggest_lr(model, optimizer, loss_of, batches, method=method, seeds=3, steps=60)
        for method in get_args(Method)
    )
    assert ranged.lr and ranged.low and ranged.high  # noqa: PT018
    assert metered.stable is not None
    rates = [curve.rate for curve in ranged.curves if curve.rate is not None]
    assert (ranged.low, ranged.high) == (min(rates), max(rates))
    assert ranged.low <= ranged.lr <= ranged.high
    assert ranged.stable is None
    assert metered.low == SHARE_OF_STABLE * metered.stable
    assert both.stable == metered.stable
    assert both.lr == min(ranged.lr, SHARE_OF_STABLE * metered.stable)
    assert "by the seeds" in str(ranged)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": 3}, "suggest_lr: model must be a torch.nn.Module, got 3"),
        ({"optimizer": 3}, "suggest_lr: optimizer must be a torch.optim.Optimizer, got 3"),
        ({"batches": 3}, "suggest_lr: batches must be iterable, got 3"),
        ({"batches": iter([1])}, "suggest_lr: batches must be what can be begun again"),
        ({"batches": []}, "suggest_lr: batches must hold a batch, got none"),
        ({"method": "guess"}, "suggest_lr: method must be one of"),
        ({"seeds": 0}, "suggest_lr: seeds must be 1 or more, got 0"),
        ({"low": 1.0, "high": 0.1}, "suggest_lr: low must be below high, got low=1 and high=0.1"),
        ({"steps": 1}, "suggest_lr: steps must be 2 or more, got 1"),
        ({"loss": lambda model, batch: model(batch[0])}, "loss must return one number with a"),
        ({"loss": lambda model, batch: 1.0}, "loss must return one number with a gradient, got 1"),
        ({"optimizer": RMSProp([nn.Parameter(torch.ones(1))])}, "must step parameters of"),
    ],
)  # fmt: skip
def test_what_is_asked_wrongly_is_refused_in_one_line(changed, message):
    model = network()
    asked = {
        "model": model, "optimizer": RMSProp(model.parameters()), "loss": loss_of,
        "batches": [next(iter(LOADERS["a list"]()))], **changed,
    }  # fmt: skip
    with pytest.raises((TypeError, ValueError), match=message):
        suggest_lr(**asked)
