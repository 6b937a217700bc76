"""Faults of one seed, as benchmarks/faults.py injects them; and tasks that raise no alarm."""

import math

import pytest

from benchmarks import faults


@pytest.fixture(scope="module")
def clean():
    return faults.run("none", "plain", 1)


@pytest.mark.parametrize("arm", ["skip", "rollback"])
def test_without_a_fault_a_guarded_training_is_the_plain_one(arm, clean):
    guarded = faults.run("none", arm, 1)
    assert (guarded.loss, guarded.events) == (clean.loss, 0)


@pytest.mark.parametrize("fault", [fault for fault in faults.FAULTS if fault != "none"])
def test_a_rollback_survives_every_fault(fault, clean):
    guarded = faults.run(fault, "rollback", 1)
    assert guarded.loss < 2 * clean.loss
    assert guarded.events > 0


def test_a_nan_ends_a_plain_training(clean):
    assert math.isnan(faults.run("nan", "plain", 1).loss)
    assert math.isfinite(clean.loss)


@pytest.mark.parametrize("task", ["digits", "co2", "demand", "digits-fine-tuned", "beale"])
def test_a_clean_run_of_a_task_raises_no_alarm(task):
    assert faults.clean_run(task)[2] == 0
