"""The example of a distributed training goes on as if it had never been killed."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "train_distributed.py"
LIMIT = 600  # seconds, after which it hangs, beside other work


def command(folder, processes, steps=30):
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    where = [EXAMPLE, "--steps", steps, "--every", 10, "--out", folder]
    return [*run, "--nproc-per-node", str(processes), *map(str, where)]


def losses(text):
    return {int(step): float(loss) for step, loss in re.findall(r"step (\d+) loss (\S+)", text)}


def trained(folder, processes=2):
    done = subprocess.run(
        command(folder, processes), capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stderr
    return losses(done.stdout)


def killed(folder, after):
    """What it printed until all of its processes were killed, some time after a step."""
    run = subprocess.Popen(
        command(folder, 2, 1000), stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert run.stdout
    seen, end = "", time.monotonic() + LIMIT
    while after not in losses(seen) and time.monotonic() < end:
        seen += run.stdout.readline()
    # torchrun puts its workers into sessions of their own
    workers = subprocess.run(
        ["pgrep", "-P", str(run.pid)], capture_output=True, text=True, check=False
    )
    for process in (run.pid, *map(int, workers.stdout.split())):
        os.kill(process, signal.SIGKILL)
    run.communicate()
    return losses(seen)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("whole"))


def test_it_learns(whole):
    assert list(whole) == list(range(30))
    assert whole[29] < 0.7 * whole[0]


def test_it_goes_on_bit_for_bit_where_it_was_killed(tmp_path, whole):
    before = killed(tmp_path, after=15)
    assert all(whole.get(step, loss) == loss for step, loss in before.items())
    after = trained(tmp_path)
    assert min(after) in (10, 20)
    assert after == {step: loss for step, loss in whole.items() if step >= min(after)}


def test_it_goes_on_with_another_number_of_processes(tmp_path, whole):
    killed(tmp_path, after=15)
    after = trained(tmp_path, processes=1)
    # float32: one process sums the gradients of all rows in another order
    assert after == pytest.approx({step: whole[step] for step in after}, rel=1e-4)
