"""`meansquare claims`: the runs that a claim names are done, and its verdict follows from them."""

import json
import lzma

import pytest
from conftest import meansquare
from test_cli import refusal

from meansquare.lab import court, record
from meansquare.lab.claims import CLAIMS
from meansquare.lab.cli import main
from meansquare.lab.exact import CASES
from meansquare.lab.setups import USUAL
from meansquare.lab.tasks import TASKS
from meansquare.lab.tasks.named import load_task

RAVINE = CLAIMS["momentum-ravine"]


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """A folder in which one exact case and one claim were brought before their records."""
    out = tmp_path_factory.mktemp("claims")
    asked = ("sign-descent", RAVINE.name, "--out", str(out), "--budget", "9", "--seeds", "5")
    done = meansquare("claims", *asked)
    assert (done.returncode, done.stderr) == (0, "")
    return out


def verdicts_of(folder):
    return {
        one["name"]: one["verdict"] for one in json.loads((folder / "verdicts.json").read_text())
    }


def copied(folder, target, change=lambda line: line):
    """The records of a folder of claims, every run changed."""
    header, *runs = (folder / "usual" / record.FILE_NAME).read_text().splitlines()
    (target / "usual").mkdir()
    lines = [header, *(json.dumps(change(json.loads(run))) for run in runs)]
    (target / "usual" / record.FILE_NAME).write_text("\n".join(lines) + "\n")
    return target


def test_a_claim_trains_what_it_names_and_no_more(held):
    protocol = record.load(held / "usual").protocol
    assert tuple(protocol["tasks"]) == tuple(name for name in TASKS if name in RAVINE.tasks)
    assert set(protocol["optimizers"]) == set(RAVINE.optimizers)
    assert verdicts_of(held)["sign-descent"] == "REPRODUCED"


def test_the_verdicts_are_a_page_that_shows_the_rule_and_the_results(held):
    page = (held / "verdicts.md").read_text()
    for part in (RAVINE.sentence, RAVINE.source, RAVINE.says, CASES["sign-descent"].says):
        assert part in page
    assert "- ravine (" in page


def test_swapped_names_in_the_records_turn_the_verdict_round(held, tmp_path):
    other = {"sgd": "momentum", "momentum": "sgd"}
    was = verdicts_of(held)[RAVINE.name]
    assert was == "REPRODUCED"

    def swapped(run):
        settings = {"lr": run["settings"]["lr"]}
        return run | {"optimizer": other[run["optimizer"]], "settings": settings}

    copied(held, tmp_path, swapped)
    (decided,) = court.judged([], [RAVINE], tmp_path)
    assert decided.verdict == "NOT REPRODUCED"


def test_packed_records_give_the_same_verdict(held, tmp_path):
    copied(held, tmp_path)
    plain = tmp_path / "usual" / record.FILE_NAME
    before = court.judged([], [RAVINE], tmp_path)
    (tmp_path / "usual" / record.PACKED_NAME).write_bytes(lzma.compress(plain.read_bytes()))
    plain.unlink()
    assert court.judged([], [RAVINE], tmp_path) == before


def test_without_records_a_claim_is_undecided(tmp_path):
    assert [one.verdict for one in court.judged([], CLAIMS.values(), tmp_path)] == [
        "UNDECIDED" for _ in CLAIMS
    ]


def test_an_exact_case_that_does_not_come_out_is_exit_code_one(held, tmp_path, capsys):
    content = json.loads((held / court.EXACT).read_text())
    name, value = next(iter(content["values"]["sign-descent"].items()))
    content["values"]["sign-descent"][name] = value + 1e6
    (tmp_path / court.EXACT).write_text(json.dumps(content))
    assert main(["claims", "sign-descent", "--judge", "--out", str(tmp_path)]) == 1
    assert "NOT REPRODUCED" in capsys.readouterr().out


def test_damaged_exact_values_are_refused(tmp_path, capsys):
    (tmp_path / court.EXACT).write_text("{")
    assert "exact.json is damaged" in refusal(capsys, "claims", "exact", "--out", tmp_path)


def test_all_claims_train_the_usual_optimizers_on_every_task(tmp_path):
    means = court.Means(tmp_path, 1, "local", "")
    campaigns = court.campaigns([*CLAIMS.values()], 16, 10, True, means)
    usual = campaigns["usual"].study
    assert (usual.optimizers, usual.search) == (USUAL, "all")
    assert set(usual.tasks) == set(TASKS)
    assert campaigns["styles"].study.optimizers == ("torch", "sb3")
    assert {"river-sgd", "sgd", "river-rmsprop"} <= set(campaigns["river"].study.optimizers)
    assert {one.study.search for name, one in campaigns.items() if name != "usual"} == {"lr"}


@pytest.mark.parametrize("name", TASKS)
def test_every_task_states_its_target_so_that_more_optimizers_change_no_verdict(name):
    assert load_task(name).facts.target is not None


def test_a_stopped_campaign_says_the_command_that_goes_on(held, capsys, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(court, "train", stopped)
    asked = [RAVINE.name, "--out", str(held), "--budget", "9", "--seeds", "5"]
    assert main(["claims", *asked]) == 130
    said = capsys.readouterr().err
    assert f"continue with: meansquare claims {' '.join(asked)}" in said


def test_the_names_of_claims_and_cases_are_apart():
    assert not CLAIMS.keys() & CASES.keys()
