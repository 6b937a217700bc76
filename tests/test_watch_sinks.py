"""Where a watcher writes: whole lines, whatever fails, and never at the cost of training."""

import gc
import json
import math
import resource
import signal
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from watched import network, read, train

from meansquare import RMSProp, watch
from meansquare.kernels import cpu
from meansquare.watching import sinks
from meansquare.watching.lines import text_of
from meansquare.watching.sinks import free_name


def test_a_name_that_is_taken_is_left_alone(tmp_path):
    (tmp_path / "w.jsonl").write_text("mine")
    watcher = watch(RMSProp(network().parameters()), to=tmp_path / "w.jsonl")
    assert watcher.path == tmp_path / "w-2.jsonl"
    assert free_name(tmp_path / "w.jsonl") == tmp_path / "w-3.jsonl"
    assert (tmp_path / "w.jsonl").read_text() == "mine"


def test_a_full_disk_is_told_once_and_counted_and_training_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(sinks, "HELD", 0.0)
    model = network()
    optimizer = RMSProp(model.parameters())
    watcher = watch(optimizer, every=1, to=tmp_path / "w.jsonl")
    size = watcher.path.stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, before[1]))
    try:
        with pytest.warns(RuntimeWarning, match=r"watch: cannot write to .*w.jsonl") as told:
            train(model, optimizer, 5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (watcher.dropped, len(told)) == (5, 1)
    assert len(read(watcher.path)) == 1  # whole lines only
    train(model, optimizer, 1)
    assert [line.get("step") for line in read(watcher.path)] == [None, 6]


def test_looks_are_held_for_a_second_and_events_are_written_at_once(tmp_path, monkeypatch):
    now = 100.0
    monkeypatch.setattr(sinks.time, "monotonic", lambda: now)
    model = network()
    optimizer = RMSProp(model.parameters())
    watcher = watch(optimizer, every=1, to=tmp_path / "w.jsonl")
    train(model, optimizer, 3)
    assert len(read(watcher.path)) == 1
    now = 101.0
    train(model, optimizer, 2)
    assert [line.get("step") for line in read(watcher.path)] == [None, 1, 2, 3, 4]
    watcher.event("seen")
    assert [line.get("step") for line in read(watcher.path)] == [None, 1, 2, 3, 4, 5, 5]
    train(model, optimizer, 1)
    watcher.remove()
    assert read(watcher.path)[-1]["step"] == 6


def test_lines_that_are_held_are_counted_when_the_disk_is_full(tmp_path):
    model = network()
    optimizer = RMSProp(model.parameters())
    watcher = watch(optimizer, every=1, to=tmp_path / "w.jsonl")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (watcher.path.stat().st_size, before[1]))
    try:
        train(model, optimizer, 3)
        with pytest.warns(RuntimeWarning, match=r"watch: cannot write to .*w.jsonl") as told:
            watcher.remove()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (watcher.dropped, len(told)) == (3, 1)
    assert len(read(watcher.path)) == 1


KILLED = """
import os, signal, sys, time
import torch
from meansquare import RMSProp, watch
from meansquare.kernels import cpu

p = torch.nn.Parameter(torch.ones(4))
p.grad = torch.ones(4)
optimizer = RMSProp([p])
told = []
watch(optimizer, every=1, to=[sys.argv[1], told.append])
while not told[1:] or told[-1]["seconds"] < 2.5:
    optimizer.step()
    time.sleep(0.001)
print(told[-1]["seconds"], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_is_killed_loses_the_looks_of_a_second_and_no_whole_line(tmp_path):
    path = tmp_path / "w.jsonl"
    done = subprocess.run([sys.executable, "-c", KILLED, path], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    looks = [line["seconds"] for line in read(path) if line.get("kind") == "look"]
    # Half a second more, for which this machine may let a process wait.
    assert looks[-1] > float(done.stdout) - 1.5


def test_a_dead_tensorboard_and_a_function_that_raises_do_not_keep_others_from_being_told():
    class Dead:
        def add_scalar(self, *_):
            raise ConnectionError("gone")

    def broken(line):
        raise KeyError("x")

    model, lines = network(), []
    optimizer = RMSProp(model.parameters())
    with pytest.warns(RuntimeWarning) as told:  # noqa: PT031 - one warning at each
        watcher = watch(optimizer, every=1, to=[Dead(), broken, lines.append])
        train(model, optimizer, 3)
    assert ["Dead (ConnectionError: gone)" in str(w.message) for w in told] == [False, True]
    assert len(lines) == 4
    assert watcher.dropped == 7


def test_tensorboards_own_reader_reads_what_its_own_writer_wrote(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model = network()
    optimizer = RMSProp(model.named_parameters())
    with watch(optimizer, every=2, to=f"tensorboard:{tmp_path}") as watcher:
        train(model, optimizer, 4, watcher.loss)
        watcher.sharpness(lambda: model(torch.ones(1, 6)).square().mean())
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    assert [event.step for event in read.Scalars("update/0.weight")] == [2, 4]
    assert [event.step for event in read.Scalars("loss")] == [1, 2, 3, 4]
    assert {"rate/2.bias", "edge", "precursor/0.bias"} <= {*read.Tags()["scalars"]}


@settings(derandomize=True, deadline=None)
@given(st.recursive(st.floats() | st.integers() | st.text(), lambda x: st.lists(x) | st.tuples(x)))
def test_every_line_is_json_of_the_strict_kind(value):
    def refused(name):
        raise AssertionError(name)

    (line,) = text_of({"x": value}).splitlines()
    assert json.loads(line, parse_constant=refused) == {"x": as_read(value)}


def as_read(value):
    """What is read back: lists for tuples, None for what is not finite."""
    if isinstance(value, (list, tuple)):
        return [as_read(part) for part in value]
    if isinstance(value, dict):
        return {name: as_read(part) for name, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


@pytest.mark.skipif(cpu.native is None, reason="no extension")
@settings(derandomize=True, deadline=None)
@given(st.lists(st.floats() | st.floats(width=32)))
def test_the_extension_writes_numbers_as_json_does(values):
    assert json.loads(cpu.native.text_of(values)) == as_read(values)


def test_a_file_has_what_a_function_is_told(tmp_path):
    model, told = network(), []
    optimizer = RMSProp(model.parameters(), lr=1e-3)
    with watch(optimizer, every=2, to=[tmp_path / "w.jsonl", told.append]) as watcher:
        train(model, optimizer, 4, watcher.loss)
        next(model.parameters()).data.fill_(math.nan)
        train(model, optimizer, 2, lambda loss: watcher.loss(math.inf))
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})
        train(model, optimizer, 2, watcher.loss)
    lines = read(tmp_path / "w.jsonl")
    assert [line.get("kind") for line in lines] == [None, *["losses", "look"] * 4, "losses"]
    assert [as_read(line) for line in told] == lines
    assert math.isnan(told[6]["tensors"][0]["update"])
    assert [line["lr"] for line in lines if "lr" in line] == [[1e-3]] * 3 + [[1e-3, 1e-3]]


def test_what_another_sink_does_to_a_line_is_not_in_the_file(tmp_path):
    optimizer = RMSProp(network().parameters())
    watcher = watch(optimizer, every=1, to=[dict.clear, tmp_path / "w.jsonl", dict.clear])
    watcher.event("seen")
    assert [line.get("what") for line in read(watcher.path)] == [None, "seen"]


def test_what_is_held_is_written_when_the_optimizer_is_let_go_of(tmp_path):
    model = network()
    optimizer = RMSProp(model.parameters())
    watch(optimizer, every=1, to=tmp_path / "w.jsonl")
    train(model, optimizer, 3)
    del optimizer
    gc.collect()
    assert [line.get("step") for line in read(tmp_path / "w.jsonl")] == [None, 1, 2, 3]
