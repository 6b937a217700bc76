"""What tests share: threads of either kind; for the lab, a tiny comparison and a run."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile

import pytest
import torch

from meansquare.kernels import cpu
from meansquare.lab.record import Record

# Rules that tests write are compiled anew in each run.
os.environ["MEANSQUARE_CACHE"] = tempfile.mkdtemp()
atexit.register(shutil.rmtree, os.environ["MEANSQUARE_CACHE"], ignore_errors=True)

TINY = ("--epochs", "1", "--budget", "2", "--seeds", "2")


def meansquare(*arguments, **options):
    """The command line in a process of its own."""
    code = "from meansquare.lab.cli import main; raise SystemExit(main())"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


KINDS = ("torch's threads", "its own pool")
PREPARED = """
import torch
from meansquare import RMSProp
from meansquare.kernels import cpu
assert cpu.native.borrow_threads("") is False if {own} else cpu.borrow_threads(cpu.native)
"""


@pytest.fixture(params=KINDS)
def kind_of_threads(request):
    """Either kind of threads that a step can run on, for `python` to use."""
    if cpu.native is None:
        pytest.skip(f"C++ kernels {cpu.detail}")
    return request.param


def python(code, kind_of_threads=KINDS[0]):
    """What some code prints in a process with these threads, which ends well and silently."""
    prepared = PREPARED.format(own=kind_of_threads == KINDS[1])
    command = [sys.executable, "-c", prepared + code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(params=KINDS)
def threads(request):
    """Sets the number of threads, of either kind that a step can run on."""
    if cpu.native is None:
        pytest.skip(f"C++ kernels {cpu.detail}")
    before = torch.get_num_threads()
    if request.param == KINDS[1]:
        assert not cpu.native.borrow_threads("")
    yield torch.set_num_threads
    torch.set_num_threads(before)
    cpu.borrow_threads(cpu.native)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of a finished comparison of all optimizers on both tasks."""
    folder = tmp_path_factory.mktemp("compare") / "run"
    done = meansquare("compare", "--out", folder, *TINY)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def a_run():
    """Makes a tuning run of digits with rmsprop that ended well, but for the given fields."""
    return lambda **changes: Record(**{**RUN, **changes})


FACTS = {
    "name": "digits",
    "title": "Digits",
    "kind": "cnn",
    "model": "CNN",
    "parameters": 1000,
    "batch_size": 32,
    "sizes": {"train": 100, "validation": 20, "test": 20},
    "metric": "accuracy",
    "unit": "%",
    "higher_is_better": True,
    "baselines": {"chance": 10.0},
    "notes": "",
    "target": 60.0,
    "epoch": "epoch",
    "events": {},
    "blow_up": 1000.0,
    "scale": "linear",
}
RUN = {
    "phase": "tune",
    "task": "digits",
    "optimizer": "rmsprop",
    "settings": {"lr": 0.1},
    "seed": 0,
    "epochs": 2,
    "status": "ok",
    "diverged_at": None,
    "train_loss": (2.0, 1.0),
    "validation_loss": (1.5, 1.0),
    "validation_metric": (50.0, 60.0),
    "test_metric": None,
    "series": {},
    "steps": 4,
    "steps_at": (2, 4),
    "step_us": 25.0,
    "optimizer_seconds": 0.0001,
    "optimizer_seconds_at": (0.00005, 0.0001),
    "training_seconds": 0.01,
    "training_seconds_at": (0.005, 0.01),
    "made_by": {
        "versions": {"torch": "2.13.0", "meansquare": None},
        "machine": {"platform": "Linux x86_64", "cpu": None, "cores": 2},
        "commit": None,
    },
}
