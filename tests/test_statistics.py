"""Intervals, comparisons in pairs and times to a target, against slow twins and known answers."""

import itertools
import math
import statistics as plain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meansquare.lab.statistics import (
    Interval,
    best_so_far,
    bootstrap,
    first_reaching,
    median_with_misses,
    middle,
    ratios_to_best,
    versus,
)

numbers = st.floats(-1e6, 1e6)
some = st.lists(numbers, min_size=1, max_size=12)
trials = st.lists(st.none() | numbers, min_size=1, max_size=12)


@settings(deadline=None)
@given(some)
def test_an_interval_lies_within_the_scores_and_moves_with_them(scores):
    interval = bootstrap(scores)
    # A mean of equal numbers can differ from them in its last digit.
    slack = 1e-9 * (1 + max(map(abs, scores)))
    assert min(scores) - slack <= interval.low <= interval.high <= max(scores) + slack


def test_the_interval_of_many_scores_is_the_normal_one():
    scores = [math.sin(12.9898 * i) for i in range(400)]
    error = 1.96 * plain.stdev(scores) / math.sqrt(len(scores))
    mean = plain.fmean(scores)
    # 10,000 resamples place the ends within a few per cent of their distance.
    assert bootstrap(scores) == pytest.approx((mean - error, mean + error), abs=0.06 * error)


def test_the_inter_quartile_mean_leaves_the_outer_quarters_out():
    assert middle([1.0, 2.0, 3.0, 1000.0], trimmed=True) == 2.5
    assert middle([1.0, 2.0, 3.0, 1000.0], trimmed=False) == 251.5


@settings(deadline=None)
@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=10), st.booleans())
def test_swapping_two_optimizers_turns_everything_round(pairs, higher):
    ours, theirs = zip(*pairs, strict=True)
    one, other = versus(ours, theirs, higher), versus(theirs, ours, higher)
    assert one.gain == -other.gain
    assert one.chance == pytest.approx(1 - other.chance)  # shares of a few seeds, summed
    assert one.interval.low == pytest.approx(-other.interval.high, rel=1e-6, abs=1e-3)


def test_a_small_gain_in_every_pair_counts_where_the_scores_overlap():
    ours, theirs = [90.0, 95.0, 99.0, 93.0], [89.5, 94.4, 98.6, 92.3]
    assert bootstrap(ours).overlaps(bootstrap(theirs))
    compared = versus(ours, theirs, higher_is_better=True)
    assert compared.chance == 1.0
    assert not compared.interval.holds_zero


def test_lower_is_better_where_the_task_says_so():
    assert versus([1.0, 1.0], [2.0, 3.0], higher_is_better=False).gain == 1.5


def test_an_equal_result_counts_half():
    assert versus([1.0, 2.0], [1.0, 1.0], higher_is_better=True).chance == 0.75


@settings(deadline=None)
@given(trials)
def test_more_trials_are_never_worse_and_all_of_them_find_the_best(losses):
    rows = best_so_far(losses)
    ranks = [[math.inf if value is None else value for value in row] for row in rows]
    assert all(
        b <= a for one, two in itertools.pairwise(ranks) for a, b in zip(one, two, strict=True)
    )
    best = min((loss for loss in losses if loss is not None), default=None)
    assert rows[-1] == (best, best, best)


@given(trials)
def test_a_median_counts_misses_as_longer_than_anything(values):
    twin = plain.median([math.inf if value is None else value for value in values])
    expected = None if math.isinf(twin) or math.isnan(twin) else twin
    assert median_with_misses(values) == expected


def test_the_target_is_reached_by_the_first_period_that_is_as_good():
    assert first_reaching([10.0, 50.0, 40.0, 60.0], 50.0, higher_is_better=True) == 1
    assert first_reaching([3.0, 2.0, 1.0], 1.5, higher_is_better=False) == 2
    assert first_reaching([3.0, 2.0], 1.5, higher_is_better=False) is None


def test_the_fastest_has_a_ratio_of_one():
    times = {"a": 20.0, "b": 10.0, "c": None}
    assert ratios_to_best(times) == {"a": 2.0, "b": 1.0, "c": None}
    assert ratios_to_best({"a": None}) == {"a": None}


def test_an_interval_knows_zero():
    assert Interval(-1.0, 1.0).holds_zero
    assert not Interval(0.1, 1.0).holds_zero
