"""Streams: predicted before learned, nothing from later seen, drifts felt; river's optimizers."""

import random

import numpy as np
import pytest
import torch
from river import datasets, linear_model, optim

from meansquare.lab import from_river
from meansquare.lab.errors import LabError
from meansquare.lab.run import run
from meansquare.lab.setups import SETUPS
from meansquare.lab.study import Plan
from meansquare.lab.tasks import TASKS
from meansquare.lab.tasks.named import load_task
from meansquare.lab.tasks.streams import (
    SOURCES,
    Learning,
    Source,
    _baselines,
    as_arrays,
    standardised,
)

NAMES = list(SOURCES)
RIVERS = {
    from_river.RiverSGD: optim.SGD,
    from_river.RiverRMSProp: optim.RMSProp,
    from_river.RiverAdaGrad: optim.AdaGrad,
    from_river.RiverAdam: optim.Adam,
}


def trained(name, seed=1, periods=2, optimizer="rmsprop", lr=0.03):
    plan = Plan("final", name, optimizer, {"lr": lr}, seed, periods)
    return run(load_task(name), SETUPS[optimizer], plan)


def learned(problem, periods, lr=0.03):
    """The problem after gradient descent on some periods of its stream."""
    optimizer = torch.optim.SGD(problem.parameters(), lr)
    for _ in range(periods):
        for loss in problem.losses():
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return problem


def of(examples, drifts=()):
    return Source("", lambda seed: examples, drifts, 2, 0.0, "")


def test_every_source_is_a_task_of_its_periods():
    assert set(NAMES) == {name for name, listing in TASKS.items() if listing.kind == "stream"}
    assert {name: TASKS[name].epochs for name in NAMES} == {
        name: source.periods for name, source in SOURCES.items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_gives_the_same_run_twice_and_another_seed_another(name):
    first, again, other = trained(name), trained(name), trained(name, seed=2)
    assert first.train_loss == again.train_loss
    assert first.test_metric == again.test_metric
    assert first.train_loss != other.train_loss


@pytest.mark.parametrize("name", NAMES)
def test_the_optimizers_of_a_seed_see_one_stream(name):
    source = SOURCES[name]
    assert source.draw(3) == source.draw(3) != source.draw(4)


def test_phishing_is_rivers_data_in_another_order():
    def known(examples):
        return sorted((*x.values(), y) for x, y in examples)

    assert known(SOURCES["phishing"].draw(1)) == known(datasets.Phishing())


@pytest.mark.parametrize("name", NAMES)
def test_what_comes_later_changes_nothing_before(name):
    examples = SOURCES[name].draw(1)[:200]
    x, y = examples[150]
    changed = [*examples[:150], (dict.fromkeys(x, 9.0), not y), *examples[151:]]
    losses = [learned(Learning(of(e), 1), 2).log_losses for e in (examples, changed)]
    assert losses[0][:150] == losses[1][:150]
    assert losses[0][150] != losses[1][150]


def test_an_example_is_predicted_with_the_weights_before_its_step():
    problem = Learning(SOURCES["sea"], 1)
    optimizer = torch.optim.SGD(problem.parameters(), 0.1)
    for at, loss in enumerate(problem.losses()):
        margin = problem._signs[at] * problem.model(problem._inputs[at])[0]
        assert loss.item() == torch.nn.functional.softplus(-margin).item()
        assert (problem.hits[at], problem.log_losses[at]) == (margin.item() > 0, loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_features_are_standardised_by_what_was_seen():
    generator = np.random.default_rng(0)
    inputs = generator.normal(3.0, 2.0, (50, 4))
    inputs[:, 3] = 7.0  # a feature that never varies
    shown = standardised(inputs)
    for row in (0, 1, 7, 49):
        seen = inputs[: row + 1]
        deviation = seen.std(axis=0)
        wanted = np.divide(inputs[row] - seen.mean(axis=0), deviation, where=deviation > 0,
                           out=np.zeros(4))  # fmt: skip
        # The running sums round otherwise than the whole ones.
        assert shown[row] == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize(("name", "later"), [("sea", 0), ("hyperplane", 1500)])
def test_after_a_drift_what_was_learned_is_wrong_more_often(name, later):
    problem = learned(Learning(SOURCES[name], 1), 5)
    assert len(problem.hits) == 1500  # where SEA changes at once

    def accuracy(begin):
        part = slice(begin, begin + 500)
        margins = problem.model(problem._inputs[part])[:, 0] * problem._signs[part]
        return float((margins > 0).double().mean())

    assert accuracy(1000) > accuracy(1500 + later) + 0.03


def test_a_stream_ends():
    problem = learned(Learning(of(SOURCES["phishing"].draw(1)), 1), 2)
    with pytest.raises(LabError, match="--epochs can be 2 at most"):
        next(problem.losses())


def test_baselines_are_of_the_part_that_is_reported():
    _, labels = as_arrays(SOURCES["sea"].draw(1))
    baselines = load_task("sea").facts.baselines
    same = np.mean([labels[at - 1] == labels[at] for at in range(1500, 6000)])
    common = np.mean([(labels[:at].mean() > 0.5) == labels[at] for at in range(1500, 6000)])
    assert baselines["the class before"] == 100.0 * same
    assert baselines["always the commonest class so far"] == 100.0 * common


def test_what_is_reported_is_the_share_of_right_predictions_after_the_first_drift():
    problem = Learning(SOURCES["sea"], 1)
    problem.hits = [False] * 1500 + [True] * 300 + [False] * 300
    assert problem.test() == 50.0
    problem.log_losses = [1.0] * 300 + [3.0] * 300
    assert problem.validate() == (2.0, 0.0)


def test_baselines_know_no_label_before_they_tell_it():
    examples = [({0: 0.0}, at % 2 == 0) for at in range(100)]
    baselines = _baselines(examples, ())
    assert baselines["the class before"] == 0.0
    assert baselines["always the commonest class so far"] == 0.0


def test_drifts_are_told_in_periods():
    assert load_task("sea").facts.events == {"drift 1": 5.0, "drift 2": 10.0, "drift 3": 15.0}


@pytest.mark.parametrize("ours", RIVERS)
def test_rivers_optimizers_step_as_they_do_in_river(ours):
    source = random.Random(0)
    weight = torch.nn.Parameter(torch.zeros(2, 3, dtype=torch.float64))
    stepped, known, wanted = ours([weight], 0.1), RIVERS[ours](0.1), dict.fromkeys(range(6), 0.0)
    for _ in range(20):
        grad = {key: source.gauss(0.0, 1.0) for key in wanted}
        weight.grad = torch.tensor([*grad.values()], dtype=torch.float64).view(2, 3)
        stepped.step()
        wanted = known.step(wanted, grad)
        assert weight.flatten().tolist() == [*wanted.values()]


@pytest.mark.parametrize("ours", RIVERS)
def test_rivers_logistic_regression_learns_the_same_weights(ours):
    inputs, labels = as_arrays(SOURCES["phishing"].draw(1))
    known = linear_model.LogisticRegression(RIVERS[ours](0.1), intercept_lr=0.0)
    weight = torch.nn.Parameter(torch.zeros(1, 9, dtype=torch.float64))
    stepped = ours([weight], 0.1)
    for x, y in zip(standardised(inputs), labels, strict=True):
        known.learn_one(dict(enumerate(x.tolist())), bool(y))
        stepped.zero_grad()
        torch.nn.functional.softplus((1.0 - 2.0 * y) * (weight @ torch.tensor(x))).backward()
        stepped.step()
    # The gradient is of another formula: the weights are 1.3e-12 apart at most.
    wanted = [known.weights[key] for key in range(9)]
    assert weight.flatten().tolist() == pytest.approx(wanted, rel=1e-11)


def test_a_changed_learning_rate_is_heeded_and_a_weight_without_gradient_stays():
    weights = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    optimizer = from_river.RiverSGD(weights, 0.5)
    weights[0].grad = torch.ones(1)
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.25
    optimizer.step()
    assert [weight.item() for weight in weights] == [0.25, 1.0]


@pytest.mark.parametrize("name", ["river-sgd", "river-adagrad"])
def test_river_learns_the_stream_that_ours_learns(name):
    theirs = trained("phishing", periods=10, optimizer=name, lr=0.1)
    ours = trained("phishing", periods=10, optimizer=name.removeprefix("river-"), lr=0.1)
    # One formula, but for float32 and AdaGrad's eps.
    assert theirs.train_loss == pytest.approx(ours.train_loss, rel=1e-3)
