"""Whoever does the runs, and whatever is killed meanwhile, the records are the same."""

import os
import signal
from dataclasses import asdict
from pathlib import Path

import pytest
from conftest import meansquare
from test_lab_record import children_of, uninterrupted, wait_until

from meansquare.lab import campaign, record
from meansquare.lab.arms import choose
from meansquare.lab.cli import main
from meansquare.lab.environment import usable_cores
from meansquare.lab.errors import LabError
from meansquare.lab.on_ray import RayCrew
from meansquare.lab.record import Record
from meansquare.lab.schedule import Crew, Epoch, Finished, Lost, Started
from meansquare.lab.study import Plan, Study

TIMES = {
    "step_us", "optimizer_seconds", "training_seconds", "optimizer_seconds_at",
    "training_seconds_at", "made_by",
}  # fmt: skip
STUDY = Study(("digits",), ("rmsprop", "sgd"), budget=3, seeds=2, epochs={"digits": 2})
LONG = Plan("tune", "digits", "sgd", {"lr": 0.1}, 0, 400)

pytestmark = pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="processes are found through /proc"
)


def numbers(runs: list[Record]) -> dict:
    """What a run leaves that is no time."""
    return {run.key: {k: v for k, v in asdict(run).items() if k not in TIMES} for run in runs}


def records_of(crew, plans: list[Plan]) -> list[Record]:
    return [event.record for event in crew.train(plans) if isinstance(event, Finished)]


def all_of_the_study(crew) -> list[Record]:
    """Every run of STUDY, in the rounds that its results ask for."""
    made: list[Record] = []
    while plans := [
        plan
        for plan in STUDY.tuning({run.key: run.last_loss for run in made})
        if plan.key not in {run.key for run in made}
    ]:
        made += records_of(crew, plans)
    return made + records_of(crew, STUDY.final(choose(made)))


def test_a_killed_worker_is_replaced_and_its_run_done_again():
    with Crew(1) as crew:
        events = crew.train([LONG])
        assert isinstance(next(events), Started)
        assert isinstance(next(events), Epoch)
        os.kill(crew._workers[0].process.pid, signal.SIGKILL)
        seen = [event for event in events if not isinstance(event, Epoch)]
    assert [type(event) for event in seen] == [Lost, Started, Finished]
    assert seen[0].how == "exit code -9"
    assert len(seen[2].record.train_loss) == 400


def test_a_run_whose_process_always_ends_is_given_up_with_one_line():
    def kill_each():
        for event in crew.train([LONG]):
            if isinstance(event, Epoch):
                os.kill(crew._workers[0].process.pid, signal.SIGKILL)

    told = r"ended 3 times \(exit code -9\) in digits with sgd"
    with Crew(1) as crew, pytest.raises(LabError, match=told):
        kill_each()


def test_a_ray_cluster_gives_the_same_records_though_a_worker_is_killed():
    with RayCrew(2) as crew:
        events = crew.train([LONG, *STUDY.tuning({})])
        first = [next(events), next(events)]
        assert all(isinstance(event, Started) for event in first)
        workers = lambda: [pid for pid in descendants(os.getpid()) if b"_train" in title(pid)]  # noqa: E731
        wait_until(lambda: len(workers()) == 2)
        os.kill(workers()[0], signal.SIGKILL)
        tuned = [event.record for event in events if isinstance(event, Finished)]
        whole = all_of_the_study(crew)
    assert len(tuned) == 1 + len(STUDY.tuning({}))
    assert numbers(whole) == numbers(uninterrupted())
    assert (
        numbers(tuned).items()
        >= {key: run for key, run in numbers(whole).items() if key in numbers(tuned)}.items()
    )


THREADS = """
import torch
def model(): return torch.nn.Linear(3, 1)
def data():
    x = torch.arange(60.0).reshape(20, 3)
    return {name: (x, x[:, :1]) for name in ("train", "validation", "test")}
def loss(output, target): return (output - target).square().mean() / 1e4
def metric(output, target): return float(torch.get_num_threads())
METRIC, EPOCHS = "threads of a run", 2
"""


def test_the_command_gives_the_same_records_on_ray_and_every_run_has_one_thread(tmp_path):
    (tmp_path / "threads.py").write_text(THREADS)
    made = {}
    for engine in ("local", "ray"):
        asked = ("threads.py", "--optimizers", "rmsprop,sgd", "--budget", 3, "--seeds", 2)
        call = ("compare", *asked, "--out", engine, "--jobs", 2, "--engine", engine)
        done = meansquare(*call, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        made[engine] = list(record.load(tmp_path / engine).records)
    assert numbers(made["ray"]) == numbers(made["local"])
    finals = [run for run in made["local"] if run.phase == "final"]
    assert {run.test_metric for run in finals} == {1.0}
    assert len(finals) == 4


def test_as_many_processes_as_cores_are_asked_for(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(campaign, "conduct", lambda campaign, console: asked.append(campaign) or 0)
    assert main(["compare", "digits", "--out", str(tmp_path)]) == 0
    assert [one.jobs for one in asked] == [usable_cores()]


def descendants(parent: int) -> list[int]:
    found = []
    for child in children_of(parent):
        try:
            found += [child, *descendants(child)]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def title(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
