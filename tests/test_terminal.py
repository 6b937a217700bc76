"""What a user at a terminal sees and does: a dashboard while it trains, and Ctrl-C."""

import fcntl
import io
import os
import pty
import re
import select
import shlex
import subprocess
import sys
import termios
import time

import pytest
from rich.console import Console
from test_lab_record import LAB, arguments, children_of, is_alive, timeless, wait_until

from meansquare.lab import record
from meansquare.lab.schedule import Epoch, Finished, Lost, Started
from meansquare.lab.study import Plan
from meansquare.lab.terminal import Display

PLANS = [Plan("tune", "digits", "sgd", {"lr": lr}, 0, 10) for lr in (0.1, 0.2)]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="terminals are made as on Linux")


def own_terminal():
    """In a child: its standard output is its terminal, whose Ctrl-C it receives."""
    os.setsid()
    fcntl.ioctl(1, termios.TIOCSCTTY, 0)


def read_all(screen, until):
    """What has come on a screen when `until` holds, or when its last writer ends."""
    seen = b""
    deadline = time.monotonic() + 120
    while not until(seen):
        assert time.monotonic() < deadline, seen[-2000:]
        if select.select([screen], [], [], 0.05)[0]:
            try:
                seen += os.read(screen, 65536)
            except OSError:  # the other end of a terminal is closed
                return seen
    return seen


def test_a_terminal_shows_progress_and_ctrl_c_stops_cleanly_and_says_how_to_go_on(tmp_path):
    out, whole = tmp_path / "out", tmp_path / "whole"
    longer = ["--epochs", "12"]  # so that it does not end before it is stopped
    path = out / record.FILE_NAME
    screen, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200", "LINES": "40"}
    process = subprocess.Popen(
        [*LAB, *arguments(out), *longer], stdin=terminal, stdout=terminal, stderr=subprocess.PIPE,
        preexec_fn=own_terminal, env=environment,
    )  # fmt: skip
    os.close(terminal)
    shown = read_all(screen, lambda _: path.exists() and path.read_bytes().count(b"\n") >= 3)
    workers = children_of(process.pid)
    os.write(screen, b"\x03")
    shown += read_all(screen, lambda _: False)
    _, said = process.communicate(timeout=60)
    os.close(screen)
    assert process.returncode == 130
    assert re.search(rb"\d/\d+ runs", shown)
    assert b"digits" in shown
    wait_until(lambda: not any(is_alive(worker) for worker in workers))
    kept = len(record.load(out).records)
    told = re.fullmatch(
        r"meansquare: stopped; (\d+) runs are kept, continue with: meansquare (compare .*)\n",
        said.decode(),
    )
    assert told
    assert int(told[1]) == kept >= 2
    subprocess.run([*LAB, *shlex.split(told[2])], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*LAB, *arguments(whole), *longer], check=True, stdout=subprocess.DEVNULL)
    assert timeless(record.load(out).records) == timeless(record.load(whole).records)


@pytest.fixture
def display():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Display(console, PLANS, jobs=2) as shown:
        yield shown


def test_epochs_count_as_they_come_and_the_rest_of_a_run_when_it_ends(display, a_run):
    display.show(Started(0, PLANS[0]))
    display.show(Epoch(0, PLANS[0], 3))
    assert display._trained == 3
    display.show(Finished(0, PLANS[0], a_run()))
    assert (display._trained, display._done) == (10, 1)
    assert "1/2 runs" in display._overall.tasks[0].fields["state"]


def test_a_run_that_tells_only_of_its_end_counts_whole(display, a_run):
    for worker, plan in enumerate(PLANS):
        display.show(Started(worker, plan))
        display.show(Finished(worker, plan, a_run()))
    assert (display._trained, display._done) == (20, 2)


def test_the_epochs_of_a_lost_run_count_once(display, a_run):
    display.show(Started(1, PLANS[0]))
    display.show(Epoch(1, PLANS[0], 7))
    display.show(Lost(1, PLANS[0], "exit code -9"))
    assert display._trained == 0
    assert "ended (exit code -9); its run is done again" in display._console.file.getvalue()
    display.show(Started(1, PLANS[0]))
    display.show(Finished(1, PLANS[0], a_run()))
    assert display._trained == 10
