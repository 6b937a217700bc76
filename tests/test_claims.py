"""A claim is decided by its records alone: change them, and the verdict changes."""

import dataclasses

import pytest
from conftest import FACTS, RUN

from meansquare.lab.claims import CLAIMS, LEAST_SEEDS, decide, evidence, standing
from meansquare.lab.compare import summarize
from meansquare.lab.record import Folder, Record
from meansquare.lab.setups import is_setup, setup_of
from meansquare.lab.study import Study

SEEDS = LEAST_SEEDS


def folder_of(claim, scores, paces=None, seeds=SEEDS, higher_is_better=True):
    """Records of a claim's runs: every task gives `scores[optimizer]`, give or take by the seed.

    `paces` are the periods (1 to 4) after which an optimizer is at its target, None for never.
    """
    epochs = dict.fromkeys(claim.tasks, 4)
    study = Study(claim.tasks, claim.optimizers, budget=1, seeds=seeds, epochs=epochs)
    facts = {
        name: {**FACTS, "name": name, "higher_is_better": higher_is_better, "target": 50.0}
        for name in claim.tasks
    }
    records = []
    for plan in [*study.tuning({}), *study.final({place: {"lr": 0.1} for place in places(study)})]:
        score = scores[plan.optimizer]
        score = None if score is None else score + 0.1 * (plan.seed % 3)
        pace = (paces or {}).get(plan.optimizer, 2)
        metric = tuple(60.0 if pace and at >= pace else 40.0 for at in range(1, 5))
        if not higher_is_better:
            metric = tuple(100.0 - value for value in metric)
        final = {"test_metric": score if plan.phase == "final" else None}
        lost = {"status": "diverged", "diverged_at": 1} if score is None else {}
        records.append(
            Record(
                **{
                    **RUN, **vars(plan), **final, **lost, "validation_metric": metric,
                    "validation_loss": (1.0,) * 4, "train_loss": (1.0,) * 4,
                    "steps_at": (10, 20, 30, 40), "training_seconds_at": (1.0, 2.0, 3.0, 4.0),
                    "optimizer_seconds_at": (0.1, 0.2, 0.3, 0.4),
                }
            )
        )  # fmt: skip
    setups = {name: {"label": setup_of(name).label, "call": ""} for name in claim.optimizers}
    return Folder(None, study.protocol, facts, setups, tuple(records))


def places(study):
    return [(task, optimizer) for task in study.tasks for optimizer in study.optimizers]


def swapped(folder, one, other):
    """The same records with two optimizers' names exchanged."""
    names = {one: other, other: one}
    return dataclasses.replace(
        folder,
        records=tuple(
            dataclasses.replace(run, optimizer=names.get(run.optimizer, run.optimizer))
            for run in folder.records
        ),
    )


def of(claim, folder):
    return decide(claim, summarize(folder))


BY_RESULT = [name for name in CLAIMS if CLAIMS[name].rule.__name__ in ("_suits", "_beats")]
BY_SPEED = [name for name in CLAIMS if CLAIMS[name].rule.__name__ == "_is_faster"]


@pytest.mark.parametrize("name", BY_RESULT)
@pytest.mark.parametrize("higher", [True, False])
def test_swapping_the_names_turns_a_verdict_round(name, higher):
    claim = CLAIMS[name]
    scores = dict.fromkeys(claim.optimizers, 80.0) | {claim.first: 90.0 if higher else 70.0}
    folder = folder_of(claim, scores, higher_is_better=higher)
    assert of(claim, folder) == "REPRODUCED"
    assert of(claim, swapped(folder, claim.first, claim.others[0])) == "NOT REPRODUCED"


@pytest.mark.parametrize("name", BY_RESULT)
def test_a_tie_everywhere_reproduces_nothing(name):
    claim = CLAIMS[name]
    assert of(claim, folder_of(claim, dict.fromkeys(claim.optimizers, 80.0))) == "NOT REPRODUCED"


@pytest.mark.parametrize("name", BY_RESULT)
def test_changed_metrics_change_the_verdict(name):
    claim = CLAIMS[name]
    folder = folder_of(claim, dict.fromkeys(claim.optimizers, 80.0) | {claim.first: 90.0})
    worse = tuple(
        dataclasses.replace(run, test_metric=run.test_metric - 20.0)
        if run.optimizer == claim.first and run.test_metric is not None
        else run
        for run in folder.records
    )
    assert of(claim, dataclasses.replace(folder, records=worse)) == "NOT REPRODUCED"


@pytest.mark.parametrize("name", BY_SPEED)
def test_swapping_the_names_turns_a_race_round(name):
    claim = CLAIMS[name]
    paces = {claim.first: 1, claim.others[0]: 3}
    folder = folder_of(claim, dict.fromkeys(claim.optimizers, 80.0), paces)
    assert of(claim, folder) == "REPRODUCED"
    assert of(claim, swapped(folder, *claim.optimizers)) == "NOT REPRODUCED"


@pytest.mark.parametrize("name", BY_SPEED)
def test_a_race_that_nobody_finishes_is_undecided(name):
    claim = CLAIMS[name]
    paces = dict.fromkeys(claim.optimizers)
    folder = folder_of(claim, dict.fromkeys(claim.optimizers, 80.0), paces)
    assert of(claim, folder) == "UNDECIDED"


def test_a_difference_in_the_records_ends_a_tie():
    claim = CLAIMS["river-is-level"]
    level = folder_of(claim, dict.fromkeys(claim.optimizers, 80.0))
    assert of(claim, level) == "REPRODUCED"
    for score in (70.0, 90.0):
        apart = folder_of(claim, dict.fromkeys(claim.optimizers, 80.0) | {claim.first: score})
        assert of(claim, apart) == "NOT REPRODUCED"


@pytest.mark.parametrize("name", CLAIMS)
def test_too_few_seeds_or_a_missing_optimizer_or_task_leave_it_undecided(name):
    claim = CLAIMS[name]
    scores = dict.fromkeys(claim.optimizers, 80.0) | {claim.first: 90.0}
    assert of(claim, folder_of(claim, scores, seeds=SEEDS - 1)) == "UNDECIDED"
    without = dataclasses.replace(claim, others=claim.others[:-1])
    assert of(claim, folder_of(without, scores)) == "UNDECIDED"
    shorter = dataclasses.replace(claim, tasks=claim.tasks[:-1])
    if shorter.tasks:
        assert of(claim, folder_of(shorter, scores)) == "UNDECIDED"


def test_who_diverges_is_behind_who_does_not():
    claim = CLAIMS["suits-drift"]
    summary = summarize(folder_of(claim, {"rmsprop": 1.0, "adagrad": None}))
    assert standing(summary.tasks[0], "rmsprop", "adagrad") == "ahead"
    assert standing(summary.tasks[0], "adagrad", "rmsprop") == "behind"
    assert decide(claim, summary) == "REPRODUCED"


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_says_its_rule_and_the_records_that_decided_it(name):
    claim = CLAIMS[name]
    lines = evidence(claim, summarize(folder_of(claim, dict.fromkeys(claim.optimizers, 80.0))))
    assert [line.split(" (")[0] for line in lines] == list(claim.tasks)
    assert "REPRODUCED" in claim.says
    assert claim.sentence.endswith(".")
    assert all(map(is_setup, claim.optimizers))


def test_every_sentence_of_the_articles_has_a_claim():
    assert set(CLAIMS) == {
        "suits-cnn", "suits-rnn", "suits-rl", "suits-series", "suits-nonconvex", "suits-drift",
        "adagrad-stalls", "adam-faster", "momentum-ravine", "style-for-rl", "river-is-level",
        "river-adagrad",
    }  # fmt: skip
