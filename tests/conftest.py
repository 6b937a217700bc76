"""One real, tiny comparison that the tests of the lab share."""

import subprocess
import sys

import pytest

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
