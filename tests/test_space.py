"""Every optimizer is searched with the same number of points, over the space that is published."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meansquare.lab.setups import SETUPS, USUAL, setup_of
from meansquare.lab.space import HIGHEST_RATE, LOWEST_RATE, Axis, beyond, even_rates, points
from meansquare.lab.study import MOST_WIDENINGS, Study, edge_of

STUDY = Study(("digits",), USUAL, budget=16, seeds=2, epochs={"digits": 2}, search="all")


def rate_of(settings):
    """The rate of a point, from the formula that the documents give."""
    buffer = 1 - settings.get("momentum", 0.0)
    return settings["lr"] / buffer / (1 + settings.get("eps", 0.0) / 0.1)


@pytest.mark.parametrize("name", USUAL)
def test_every_optimizer_gets_the_same_rates_and_points_within_its_axes(name):
    trials = STUDY.trials(name)
    assert [trial.rate for trial in trials] == list(even_rates(16))
    for rate, point in trials:
        # Six digits are kept of each setting, and 1 - momentum of 0.99 has lost two of them.
        assert rate_of(point) == pytest.approx(rate, rel=1e-3)
        for axis in SETUPS[name].axes:
            value = point[axis.name] if axis.of == "value" else 1 - point[axis.name]
            assert axis.low * (1 - 1e-3) <= value <= axis.high * (1 + 1e-3)


@given(st.integers(2, 60))
def test_rates_are_even_on_a_log_scale_from_end_to_end(count):
    rates = even_rates(count)
    assert (rates[0], rates[-1]) == pytest.approx((LOWEST_RATE, HIGHEST_RATE), rel=1e-5)
    steps = [math.log(b / a) for a, b in itertools.pairwise(rates)]
    assert max(steps) == pytest.approx(min(steps), rel=1e-3)


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(0, 20))
def test_points_go_on_in_one_sequence(count, more):
    axes = SETUPS["rmsprop"].axes
    whole = points(axes, [0.1] * (count + more))
    assert points(axes, [0.1] * count) + points(axes, [0.1] * more, count) == whole


def test_points_fill_every_quarter_of_every_axis():
    axis = Axis("eps", 1e-8, 1.0)
    values = [math.log10(point["eps"]) for point in points((axis, axis), even_rates(16))]
    assert {min(3, int((value + 8) / 2)) for value in values} == {0, 1, 2, 3}


@pytest.mark.parametrize(("edge", "ratio"), [("lowest", 0.1), ("highest", 10.0)])
def test_a_space_is_widened_by_the_spacing_it_has(edge, ratio):
    start = 0.01 if edge == "lowest" else 1.0
    assert beyond([0.01, 0.1, 1.0], edge, 2) == pytest.approx([start * ratio, start * ratio**2])


def losses_of(study, loss):
    """Tuning to the end, where a point's loss is a function of its rate."""
    known = {}
    while True:
        places = study.searched("digits", "sgd", known)
        keys = {study.tuning_run(("digits", "sgd"), trial).key: trial for trial in places}
        if keys.keys() <= known.keys():
            return places, known
        known |= {key: loss(trial.rate) for key, trial in keys.items()}


def test_a_search_ends_where_the_best_point_is_inside():
    study = Study(("digits",), ("sgd",), budget=8, seeds=2, epochs={"digits": 2})
    places, known = losses_of(study, lambda rate: abs(math.log(rate / 0.1)))
    assert len(places) == len(known) == 8


@pytest.mark.parametrize(("best", "edge"), [(1e-5, "lowest"), (100.0, "highest")])
def test_a_search_follows_the_best_point_past_its_border(best, edge):
    study = Study(("digits",), ("sgd",), budget=8, seeds=2, epochs={"digits": 2})
    places, known = losses_of(study, lambda rate: abs(math.log(rate / best)))
    assert 8 < len(places) <= 8 + 2 * MOST_WIDENINGS
    assert edge_of(places, list(known.values())) is None
    assert edge_of(places[:8], list(known.values())[:8]) == edge


def test_a_search_for_what_never_comes_stops_at_its_limit():
    study = Study(("digits",), ("sgd",), budget=8, seeds=2, epochs={"digits": 2})
    places, known = losses_of(study, lambda rate: -rate)
    assert len(places) == 8 + 2 * MOST_WIDENINGS
    assert edge_of(places, list(known.values())) == "highest"


def test_where_everything_diverged_smaller_rates_are_tried():
    study = Study(("digits",), ("sgd",), budget=8, seeds=2, epochs={"digits": 2})
    places, _ = losses_of(study, lambda rate: None if rate > 1e-4 else 1.0)
    assert min(trial.rate for trial in places) < 1e-4


def test_tuning_asks_for_no_run_twice_and_for_all_of_them_at_once():
    plans = STUDY.tuning({})
    assert len({plan.key for plan in plans}) == len(plans) == 16 * len(USUAL)


@pytest.mark.parametrize("name", [name for name in SETUPS if SETUPS[name].axes])
def test_every_axis_is_a_setting_that_the_optimizer_takes(name):
    import torch

    for _, point in STUDY.trials(name) if name in USUAL else ():
        opt = setup_of(name).build([torch.nn.Parameter(torch.ones(2))], point)
        group = opt.param_groups[0]
        betas = dict(zip(("beta1", "beta2"), group.get("betas", ()), strict=False))
        assert {key: {**group, **betas}[key] for key in point} == point
