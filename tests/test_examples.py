"""The examples run, stay short, and print what their pages say they do."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SHORT = ("watch_a_char_rnn.py", "survive_a_bad_batch.py", "find_a_learning_rate.py")


def run(name, *arguments, cwd):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, arguments)],
        capture_output=True, text=True, check=False, cwd=cwd, timeout=600,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("name", SHORT)
def test_they_are_commented_and_under_60_lines(name):
    lines = (EXAMPLES / name).read_text().splitlines()
    assert len(lines) < 60
    assert any(line.lstrip().startswith("#") or "  # " in line for line in lines)


def test_a_char_rnn_is_watched_and_drawn(tmp_path):
    said = run("watch_a_char_rnn.py", "out", cwd=tmp_path)
    assert len(re.findall(r"sharpness \d+\.\d+ of the limit", said)) == 3
    (file,) = re.findall(r"meansquare report (\S+)", said)
    code = "from meansquare.lab.cli import main; raise SystemExit(main())"
    command = [sys.executable, "-c", code, "report", file]
    drawn = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (drawn.returncode, drawn.stderr) == (0, "")
    assert (tmp_path / "out" / "watch.html").stat().st_size > 10_000


def test_a_guarded_training_survives_what_a_plain_one_does_not(tmp_path):
    said = run("survive_a_bad_batch.py", cwd=tmp_path)
    plain, guarded = (float(x) for x in re.findall(r"(\d+\.\d) %", said))
    assert plain < 20
    assert guarded > 80
    assert "batch 300: non-finite gradient, skip" in said
    assert "batch 450: spike in the loss, rollback" in said


def test_learning_rates_are_found_that_train(tmp_path):
    said = run("find_a_learning_rate.py", cwd=tmp_path)
    losses = [float(x) for x in re.findall(r"held-out loss (\d+\.\d+)", said)]
    assert len(losses) == 3
    assert max(losses) < 1.0  # of a network that knows nothing, 2.3
