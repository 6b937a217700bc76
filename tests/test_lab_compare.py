"""What follows from the records; real runs are paired, repeatable and leave the test split."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from conftest import FACTS, RUN

import meansquare.lab
from meansquare.lab import record, wording
from meansquare.lab.arms import choose
from meansquare.lab.compare import summarize
from meansquare.lab.record import Folder
from meansquare.lab.run import run
from meansquare.lab.setups import SETUPS
from meansquare.lab.statistics import bootstrap
from meansquare.lab.study import MOST_WIDENINGS, Plan, Study
from meansquare.lab.tasks.named import load_task

LAB = Path(meansquare.lab.__file__).parent
NAMES = ("rmsprop", "sgd")
STUDY = Study(("digits",), NAMES, budget=3, seeds=3, epochs={"digits": 2})
LOW, MIDDLE, HIGH = (trial.settings["lr"] for trial in STUDY.trials("rmsprop"))


@pytest.fixture
def tuned(a_run):
    """A tuning run of `optimizer` at `lr` that ended with `loss`, diverged for None."""

    def make(optimizer: str, lr: float, loss: float | None):
        diverged = {"status": "diverged", "diverged_at": 3, "validation_loss": (2.5,)}
        ended = {"validation_loss": (2.5, loss)} if loss is not None else diverged
        return a_run(optimizer=optimizer, settings={"lr": lr}, **ended)

    return make


@pytest.fixture
def ended(a_run):
    """The final runs of `optimizer` with these scores, None for a diverged one."""

    def make(optimizer: str, lr: float, *scores: float | None):
        return [
            a_run(
                phase="final", optimizer=optimizer, settings={"lr": lr}, seed=seed,
                test_metric=score, status="diverged" if score is None else "ok",
                diverged_at=2 if score is None else None,
            )
            for seed, score in enumerate(scores, start=1)
        ]  # fmt: skip

    return make


def arms_of(*records, optimizers=NAMES):
    study = dataclasses.replace(STUDY, optimizers=optimizers)
    setups = {name: {"label": SETUPS[name].label, "call": "call"} for name in optimizers}
    folder = Folder(Path(), study.protocol, {"digits": FACTS}, setups, records)
    return {arm.optimizer: arm for arm in summarize(folder).tasks[0].arms}


def test_the_rate_with_the_lowest_last_validation_loss_is_chosen(tuned):
    runs = [tuned("sgd", LOW, 0.9), tuned("sgd", MIDDLE, 0.2), tuned("sgd", HIGH, 0.4)]
    assert choose(runs) == {("digits", "sgd"): {"lr": MIDDLE}}


def test_of_equal_rates_the_smaller_is_chosen_in_any_order(tuned):
    runs = [tuned("sgd", HIGH, 0.5), tuned("sgd", MIDDLE, 0.5), tuned("sgd", LOW, 0.6)]
    assert choose(runs) == choose(runs[::-1]) == {("digits", "sgd"): {"lr": MIDDLE}}


def test_a_diverged_rate_is_never_chosen(a_run, tuned):
    low = a_run(
        settings={"lr": HIGH}, status="diverged", diverged_at=9, validation_loss=(2.5, 0.001)
    )
    assert choose([low, tuned("rmsprop", LOW, 7.0)]) == {("digits", "rmsprop"): {"lr": LOW}}
    assert choose([low]) == {}


def test_final_runs_have_no_say_in_the_choice(tuned, a_run):
    final = a_run(phase="final", settings={"lr": HIGH}, validation_loss=(0.0,), test_metric=99.0)
    assert choose([tuned("rmsprop", LOW, 1.0), final]) == {("digits", "rmsprop"): {"lr": LOW}}


@pytest.mark.parametrize(
    ("others", "verdict"),
    [((98.5, 98.9, 98.6), "tie"), ((90.0, 91.0, 92.0), "behind"), ((1.0, None, 99.9), "diverged")],
)
def test_verdicts_follow_the_intervals_and_swap_with_the_names(others, verdict, tuned, ended):
    def verdicts(first, second):
        runs = [tuned(first, MIDDLE, 1.0), tuned(second, MIDDLE, 1.0)]
        runs += ended(first, MIDDLE, 98.6, 98.8, 98.7) + ended(second, MIDDLE, *others)
        arms = arms_of(*runs)
        return arms[first].verdict, arms[second].verdict

    assert verdicts("rmsprop", "sgd") == verdicts("sgd", "rmsprop") == ("best", verdict)


def test_one_seed_gives_no_verdict(tuned, ended):
    runs = [tuned("sgd", LOW, 1.0), *ended("sgd", LOW, 90.0)]
    assert arms_of(*runs, optimizers=("sgd",))["sgd"].verdict == "undecided"


@pytest.mark.parametrize(("best", "edge"), [(0, "lowest"), (3, None), (-1, "highest")])
def test_a_best_point_at_a_border_that_was_widened_in_vain_is_flagged(best, edge, tuned, ended):
    rates, losses = [LOW, MIDDLE, HIGH], {}
    for _ in range(MOST_WIDENINGS + 1):
        rates = [trial.rate for trial in STUDY.searched("digits", "sgd", losses)]
        lowest = sorted(rates)[min(best, len(rates) - 1)] if best > 0 else sorted(rates)[best]
        runs = [tuned("sgd", rate, 1.0 + abs(math.log(rate / lowest))) for rate in rates]
        losses = {made.key: made.last_loss for made in runs}
    arm = arms_of(*runs, *ended("sgd", lowest, 90.0, 91.0))["sgd"]
    assert arm.edge == edge
    assert (wording.edge_warning(arm) is None) == (edge is None)


def test_divergence_is_counted_and_shown_and_leaves_no_mean(tuned, ended):
    runs = [tuned("sgd", LOW, 1.0), tuned("sgd", HIGH, None), *ended("sgd", LOW, 90.0, None, 91.0)]
    arm = arms_of(*runs)["sgd"]
    assert (arm.mean, arm.interval, arm.scores) == (None, None, (90.0, None, 91.0))
    assert wording.divergence(arm) == "1/2 tuning, 1/3 final"
    assert wording.score(arm) == "diverged in 1 of 3 seeds"


def test_an_optimizer_that_diverged_at_every_setting_is_ranked_last(tuned, ended):
    lost = [tuned("rmsprop", rate, None) for rate in (LOW, MIDDLE, HIGH)]
    runs = [*lost, tuned("sgd", LOW, 1.0), *ended("sgd", LOW, 9.0, 9.5, 9.1)]
    arms = arms_of(*runs)
    assert (arms["rmsprop"].verdict, arms["sgd"].verdict) == ("diverged", "best")
    assert wording.score(arms["rmsprop"]) == "diverged at every setting"


def test_equal_scores_have_an_interval_of_no_width():
    assert bootstrap([2.0, 2.0, 2.0]) == (2.0, 2.0)


def test_every_optimizer_starts_a_seed_with_the_same_weights_and_order(digits):
    first, second = (digits.start(3) for _ in range(2))
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert [loss.item() for loss in first.losses()] == [loss.item() for loss in second.losses()]


def test_the_summary_on_disk_is_that_of_the_records(finished):
    computed = json.loads(json.dumps(dataclasses.asdict(summarize(record.load(finished)))))
    assert json.loads((finished / "summary.json").read_text()) == computed


def one_epoch(task, phase="tune", lr=0.01, seed=1):
    made = run(task, SETUPS["rmsprop"], Plan(phase, "digits", "rmsprop", {"lr": lr}, seed, 1))
    times = dict.fromkeys(("step_us", "optimizer_seconds", "training_seconds"), 0.0)
    moments = dict.fromkeys(("optimizer_seconds_at", "training_seconds_at"), ())
    return dataclasses.replace(made, **times, **moments)


@pytest.fixture(scope="module")
def digits():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load_task("digits")
    torch.set_num_threads(threads)


def test_the_same_run_twice_gives_the_same_record_but_for_its_times(digits):
    assert one_epoch(digits) == one_epoch(digits)
    assert one_epoch(digits) != one_epoch(digits, seed=2)


def sealed(task):
    """A task whose test split cannot be read."""
    return dataclasses.replace(task, splits={**task.splits, "test": None})


def test_the_test_split_is_read_only_in_final_runs(digits):
    assert one_epoch(sealed(digits)).test_metric is None
    with pytest.raises(AttributeError):
        one_epoch(sealed(digits), phase="final")


def test_a_run_that_blows_up_is_recorded_as_diverged(digits):
    made = one_epoch(digits, phase="final", lr=1e6)
    assert (made.status, made.test_metric) == ("diverged", None)
    assert made.diverged_at == made.steps > 0
    assert record.decode(record.encode(made)) == made


def test_a_unit_that_is_none_is_not_shown():
    assert wording.measured_in({"unit": "%"}, ", ") == ", %"
    assert wording.measured_in({"unit": wording.NO_UNIT}, ", ") == ""


def test_updates_per_second_are_those_of_the_median_run(tuned, ended):
    runs = [tuned("sgd", LOW, 1.0), *ended("sgd", LOW, 9.0, 9.5, 9.1)]
    (arm,) = [arm for name, arm in arms_of(*runs).items() if name == "sgd"]
    assert arm.updates_per_second == RUN["steps_at"][-1] / RUN["training_seconds_at"][-1]
    assert wording.pace(arm) == "400"


def test_who_has_no_final_run_yet_has_not_diverged(tuned):
    arms = arms_of(tuned("rmsprop", LOW, None), tuned("sgd", LOW, 1.0), tuned("sgd", HIGH, None))
    assert arms["sgd"].verdict == "undecided"
    assert wording.score(arms["sgd"]) == "no final run yet"
