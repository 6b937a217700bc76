"""What is recorded survives: kills, cut lines, full disks, and a second process."""

import dataclasses
import lzma
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from conftest import FACTS
from hypothesis import given, settings
from hypothesis import strategies as st

from meansquare.lab import record, schema
from meansquare.lab.arms import choose
from meansquare.lab.errors import LabError
from meansquare.lab.journal import Journal
from meansquare.lab.record import Record, decode, encode
from meansquare.lab.run import run
from meansquare.lab.setups import SETUPS
from meansquare.lab.study import Study
from meansquare.lab.tasks.named import load_task

STUDY = Study(("digits",), ("rmsprop", "sgd"), budget=3, seeds=2, epochs={"digits": 2})
RATES = [trial.settings["lr"] for trial in STUDY.trials("rmsprop")]
TIMES = dict.fromkeys(("step_us", "optimizer_seconds", "training_seconds"), 0.0) | dict.fromkeys(
    ("optimizer_seconds_at", "training_seconds_at", "made_by")
)
LAB = [sys.executable, "-c", "from meansquare.lab.cli import main; raise SystemExit(main())"]

finite = st.floats(-schema.LARGEST, schema.LARGEST)
times = st.floats(0, schema.LONGEST_TIME)
positive = st.floats(1e-300, schema.LARGEST)
counts = st.integers(0, schema.MOST)
curves = st.lists(finite, max_size=4).map(tuple)
moments = st.lists(times, max_size=4).map(tuple)
names = st.sampled_from(["x", "y", "eps"])
texts = st.none() | st.text()
machines = st.fixed_dictionaries({"platform": st.text(), "cpu": texts, "cores": counts})
records = st.builds(
    Record,
    phase=st.sampled_from(["tune", "final"]),
    task=st.text(),
    optimizer=st.text(),
    settings=st.fixed_dictionaries({"lr": positive}, optional={"eps": finite}),
    seed=counts,
    epochs=counts,
    status=st.sampled_from(["ok", "diverged"]),
    diverged_at=st.none() | counts,
    train_loss=curves,
    validation_loss=curves,
    validation_metric=curves,
    test_metric=st.none() | finite,
    series=st.dictionaries(names, curves),
    steps=counts,
    steps_at=st.lists(counts, max_size=4).map(tuple),
    step_us=times,
    optimizer_seconds=times,
    optimizer_seconds_at=moments,
    training_seconds=times,
    training_seconds_at=moments,
    made_by=st.fixed_dictionaries(
        {
            "versions": st.dictionaries(st.sampled_from(["torch", "numpy"]), texts),
            "machine": machines,
            "commit": texts,
        }
    ),
)


def timeless(runs: tuple[Record, ...] | list[Record]) -> dict[record.Key, Record]:
    return {made.key: dataclasses.replace(made, **TIMES) for made in runs}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    setups = {name: {"label": name, "call": "call"} for name in STUDY.optimizers}
    record.create(tmp_path, STUDY.protocol, {"digits": FACTS}, setups)
    return tmp_path


@pytest.fixture
def two_runs(folder: Path, a_run) -> Path:
    with Journal(folder) as journal:
        journal.append(a_run(settings={"lr": RATES[0]}))
        journal.append(a_run(settings={"lr": RATES[1]}))
    return folder


@settings(derandomize=True, deadline=None)
@given(records)
def test_a_record_reads_back_as_it_was_written(made):
    assert decode(encode(made)) == made
    assert "\n" not in encode(made)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_never_written(value, folder, a_run):
    before = (folder / record.FILE_NAME).read_bytes()
    with Journal(folder) as journal, pytest.raises(ValueError, match="JSON compliant"):
        journal.append(a_run(step_us=value))
    assert (folder / record.FILE_NAME).read_bytes() == before


def test_a_cut_last_line_is_dropped_with_a_notice_and_its_run_done_again(two_runs):
    path = two_runs / record.FILE_NAME
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    read = record.load(two_runs)
    cut = "the last line was cut off and is dropped; its run is done again"
    assert read.notices == (f"{path}: {cut}",)
    missing = read.missing(STUDY.tuning(read.losses()))
    assert RATES[1] in {plan.settings["lr"] for plan in missing if plan.optimizer == "rmsprop"}
    with Journal(two_runs) as journal:
        journal.append(decode(whole.splitlines()[2].decode()))
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"lr":', b'"rate":'),
        (b'"seed":0', b'"seed":-1'),
        (b'"status":"ok"', b'"status":"fine"'),
        (b'"steps":4,', b""),
        (b"{", b"["),
        (b'"epochs":2', b'"epochs":3'),
    ],
)
def test_a_damaged_line_is_told_and_skipped_and_its_run_is_done_again(old, new, two_runs):
    path = two_runs / record.FILE_NAME
    header, first, second = path.read_bytes().splitlines(keepends=True)
    assert old in first
    damaged = header + first.replace(old, new, 1) + second
    path.write_bytes(damaged)
    read = record.load(two_runs)
    assert [made.lr for made in read.records] == [RATES[1]]
    (notice,) = read.notices
    assert notice.startswith(f"{path}: line 2 is damaged and skipped: ")
    assert path.read_bytes() == damaged
    with Journal(two_runs) as journal:
        journal.append(decode(first))
    assert path.read_bytes() == damaged + first
    assert len(record.load(two_runs).records) == 2


def test_the_same_run_a_second_time_is_told_and_skipped(two_runs):
    path = two_runs / record.FILE_NAME
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines(keepends=True)[1])
    (notice,) = record.load(two_runs).notices
    assert notice == f"{path}: line 4 is damaged and skipped: the same run a second time"
    assert len(record.load(two_runs).records) == 2


def test_another_configuration_is_refused(folder):
    other = dataclasses.replace(STUDY, seeds=3).protocol
    with pytest.raises(LabError, match=r"another configuration \(seeds: 2 there, 3 asked\)"):
        record.require_same(record.load(folder), other)


def test_a_folder_made_meanwhile_keeps_its_runs(two_runs):
    before = (two_runs / record.FILE_NAME).read_bytes()
    record.create(two_runs, STUDY.protocol, {}, {})
    assert [entry.read_bytes() for entry in two_runs.iterdir()] == [before]


def test_a_second_process_is_refused_and_changes_nothing(two_runs):
    before = (two_runs / record.FILE_NAME).read_bytes()
    with Journal(two_runs):
        second = subprocess.run([*LAB, *arguments(two_runs)], capture_output=True, text=True)
    line = f"meansquare compare: another compare is writing to {two_runs}; wait for it.\n"
    assert (second.returncode, second.stderr) == (2, line)
    assert (two_runs / record.FILE_NAME).read_bytes() == before


def test_a_disk_that_fills_up_keeps_every_whole_line(two_runs, a_run):
    before = (two_runs / record.FILE_NAME).read_bytes()
    full, refused = files_end_at(len(before) + 10), pytest.raises(LabError, match="cannot write")
    with Journal(two_runs) as journal, full, refused:
        journal.append(a_run(settings={"lr": RATES[2]}))
    assert (two_runs / record.FILE_NAME).read_bytes() == before


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="children are found through /proc")
def test_a_killed_comparison_leaves_no_worker_and_continues_to_the_same_result(tmp_path):
    out, path = tmp_path / "out", tmp_path / "out" / record.FILE_NAME
    process = subprocess.Popen([*LAB, *arguments(out)], stdout=subprocess.DEVNULL)
    wait_until(lambda: path.exists() and path.read_bytes().count(b"\n") >= 3)
    workers = children_of(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not any(is_alive(worker) for worker in workers))
    kept = path.read_bytes().rpartition(b"\n")[0] + b"\n"
    assert len(workers) >= 2
    assert 2 <= len(record.load(out).records) < len(uninterrupted())

    subprocess.run([*LAB, *arguments(out)], check=True, stdout=subprocess.DEVNULL)
    assert path.read_bytes().startswith(kept)
    assert timeless(record.load(out).records) == timeless(uninterrupted())


@contextmanager
def files_end_at(size: int):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def arguments(out: Path) -> list[str]:
    options = ["--optimizers", "rmsprop,sgd", "--budget", "3", "--seeds", "2", "--epochs", "2"]
    return ["compare", "digits", "--out", str(out), *options, "--jobs", "2"]


def uninterrupted() -> list[Record]:
    task, threads = load_task("digits"), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        tuned: list[Record] = []
        while plans := [
            plan
            for plan in STUDY.tuning({made.key: made.last_loss for made in tuned})
            if plan.key not in {made.key for made in tuned}
        ]:
            tuned += [run(task, SETUPS[plan.optimizer], plan) for plan in plans]
        final = STUDY.final(choose(tuned))
        return tuned + [run(task, SETUPS[plan.optimizer], plan) for plan in final]
    finally:
        torch.set_num_threads(threads)


def wait_until(happened) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline, "nothing happened for a minute"
        time.sleep(0.005)


def children_of(parent: int) -> list[int]:
    listed = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(child) for child in listed.read_text().split()]


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
        # A zombie waits for whoever adopted it and runs nothing.
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_packed_records_are_read_and_told_when_cut_off(two_runs):
    plain, packed = two_runs / record.FILE_NAME, two_runs / record.PACKED_NAME
    before = record.load(two_runs)
    content = lzma.compress(plain.read_bytes())
    packed.write_bytes(content)
    plain.unlink()
    assert record.readable(two_runs)
    assert not record.exists(two_runs)
    assert record.load(two_runs) == before
    for damaged in (
        content[: len(content) // 2],
        b"no archive",
        content[:40] + b"?" + content[41:],
    ):
        packed.write_bytes(damaged)
        with pytest.raises(LabError, match=r"cannot read .*records\.jsonl\.xz"):
            record.load(two_runs)
