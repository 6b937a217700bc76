"""TensorBoard shows what is in the records: read back by its own reader."""

import sys

import numpy as np
import pytest

from meansquare.lab import record
from meansquare.lab.cli import main
from meansquare.lab.tensorboard import CURVES, export

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


@pytest.fixture(scope="module")
def logs(finished, tmp_path_factory):
    target = tmp_path_factory.mktemp("logs")
    assert main(["report", str(finished), "--tensorboard", str(target)]) == 0
    return target


def scalars(folder):
    """What TensorBoard reads of one run: per tag the steps, moments and values."""
    read = accumulator.EventAccumulator(str(folder), {"scalars": 0})
    read.Reload()
    return {
        tag: [(one.step, one.wall_time, one.value) for one in read.Scalars(tag)]
        for tag in read.Tags()["scalars"]
    }


def test_every_curve_of_every_run_is_there_with_its_steps_and_seconds(finished, logs):
    runs = record.load(finished).records
    assert len(list(logs.rglob("events.*"))) == len(runs)
    for run in runs:
        name = f"{run.phase},lr={run.lr:g},seed={run.seed}"
        shown = scalars(logs / run.task / run.optimizer / name)
        moments = list(zip(run.steps_at, run.training_seconds_at, strict=True))
        for tag, name in CURVES.items():
            points = zip(moments, map(np.float32, getattr(run, name)), strict=False)
            wanted = [(step, seconds, value) for (step, seconds), value in points]
            assert shown.get(tag, []) == wanted
        assert ("metric/test" in shown) == (run.test_metric is not None)


def test_a_second_export_takes_the_place_of_the_first(finished, logs):
    before = {place.parent: scalars(place.parent) for place in logs.rglob("events.*")}
    export(finished, logs)
    assert {place.parent: scalars(place.parent) for place in logs.rglob("events.*")} == before


def test_without_tensorboard_one_line_says_what_to_install(finished, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.event_file_writer", None)
    assert main(["report", str(finished), "--tensorboard", str(tmp_path / "logs")]) == 2
    assert "needs tensorboard; run: pip install tensorboard" in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()
