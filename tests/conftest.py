"""One real, tiny comparison and a run written by hand, which the tests of the lab share."""

import subprocess
import sys

import pytest

from meansquare.lab.record import Record

TINY = ("--epochs", "1", "--budget", "2", "--seeds", "2")


def meansquare(*arguments, **options):
    """The command line in a process of its own."""
    code = "from meansquare.lab.cli import main; raise SystemExit(main())"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


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
    "model": "CNN",
    "parameters": 1000,
    "batch_size": 32,
    "sizes": {"train": 100, "validation": 20, "test": 20},
    "metric": "accuracy",
    "unit": "%",
    "higher_is_better": True,
    "baselines": {"chance": 10.0},
    "notes": "",
}
RUN = {
    "phase": "tune",
    "task": "digits",
    "optimizer": "rmsprop",
    "lr": 0.1,
    "seed": 0,
    "epochs": 2,
    "status": "ok",
    "diverged_at": None,
    "first_loss": 2.5,
    "train_loss": (2.0, 1.0),
    "validation_loss": (2.5, 1.5, 1.0),
    "validation_metric": (10.0, 50.0, 60.0),
    "test_metric": None,
    "steps": 4,
    "step_us": 25.0,
    "optimizer_seconds": 0.0001,
    "training_seconds": 0.01,
    "made_by": {
        "versions": {"torch": "2.13.0", "meansquare": None},
        "machine": {"platform": "Linux x86_64", "cpu": None, "cores": 2},
        "commit": None,
    },
}
