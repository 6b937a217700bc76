"""--time-budget: seeds go first, then settings, then epochs, until the plan fits."""

import dataclasses
import re

import pytest
from conftest import meansquare
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from test_cli import refusal

from meansquare.lab import record, time_budget
from meansquare.lab.errors import LabError
from meansquare.lab.study import Study
from meansquare.lab.time_budget import LEAST_BUDGET, LEAST_SEEDS, expected, fitted

STUDY = Study(("digits", "co2"), ("rmsprop", "sgd"), budget=9, seeds=5,
              epochs={"digits": 20, "co2": 15})  # fmt: skip
COSTS = {"digits": 0.1, "co2": 0.2}
WHOLE = expected(STUDY, COSTS, 2)


@pytest.fixture
def within(monkeypatch, tmp_path):
    """The study that is fitted to some seconds, where a period takes COSTS."""
    monkeypatch.setattr(time_budget, "measured", lambda study: COSTS)
    quiet = Console(quiet=True)
    return lambda seconds, study=STUDY: fitted(study, tmp_path, seconds, 2, quiet)


def test_what_fits_is_left_as_it_is(within):
    assert within(WHOLE) == STUDY


def test_seeds_go_first_then_settings_then_epochs(within):
    fewer = within(WHOLE - 1)
    assert fewer == dataclasses.replace(STUDY, seeds=fewer.seeds)
    assert LEAST_SEEDS <= fewer.seeds < STUDY.seeds
    less = within(0.7 * WHOLE)
    assert (less.seeds, less.epochs) == (LEAST_SEEDS, STUDY.epochs)
    assert LEAST_BUDGET <= less.budget < STUDY.budget
    shorter = within(0.3 * WHOLE)
    assert (shorter.seeds, shorter.budget) == (LEAST_SEEDS, LEAST_BUDGET)
    assert all(shorter.epochs[name] < STUDY.epochs[name] for name in STUDY.tasks)


@settings(
    derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(share=st.floats(0.25, 1.2))
def test_the_plan_fits_and_the_next_larger_one_does_not(share, within):
    seconds = share * WHOLE
    plan = within(seconds)
    assert expected(plan, COSTS, 2) <= seconds
    if plan.epochs != STUDY.epochs:
        larger = dataclasses.replace(plan, epochs={n: e + 1 for n, e in plan.epochs.items()})
    elif plan.budget != STUDY.budget:
        larger = dataclasses.replace(plan, budget=plan.budget + 1)
    else:
        larger = dataclasses.replace(plan, seeds=plan.seeds + 1)
    # 1 epoch of 20 is the step in which epochs are cut.
    assert plan == STUDY or expected(larger, COSTS, 2) > seconds


def test_a_time_that_is_too_short_is_refused_with_what_is_needed(within):
    with pytest.raises(LabError, match=r"1 s are too short, the smallest plan takes about \d+ s"):
        within(1)


def test_a_plan_for_a_time_is_made_and_kept_when_it_is_continued(tmp_path):
    asked = ("digits", "--optimizers", "sgd", "--seeds", "4", "--epochs", "2", "--out", tmp_path)
    done = meansquare("compare", *asked, "--time-budget", "90s")
    assert (done.returncode, done.stderr) == (0, "")
    (plan,) = re.findall(r"Plan for about \d+ s: (\d+) settings, (\d+) seeds", done.stdout)
    protocol = record.load(tmp_path).protocol
    assert plan == (str(protocol["budget"]), str(protocol["seeds"]))
    again = meansquare("compare", *asked, "--time-budget", "20s")
    assert (again.returncode, again.stderr) == (0, "")
    assert record.load(tmp_path).protocol == protocol


@pytest.mark.parametrize("time", ["soon", "0s", "-5m", "1 day", ""])
def test_what_is_no_time_is_refused(time, capsys, tmp_path):
    asked = ("compare", "digits", "--out", tmp_path / "new", "--time-budget", time or "s")
    assert "--time-budget must be a time such as 90s, 15m or 1.5h" in refusal(capsys, *asked)
    assert not (tmp_path / "new").exists()
