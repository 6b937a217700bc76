"""A task of one's own: what new-task writes trains as it is, and faults are told in one line."""

import hashlib
import re
import sys
from pathlib import Path

import pytest
import torch
from conftest import meansquare
from test_cli import refusal

from meansquare.lab import record
from meansquare.lab.cli import main
from meansquare.lab.errors import LabError
from meansquare.lab.tasks.named import epochs_of, is_task, load_task

GOOD = """
import torch
def model(): return torch.nn.Linear(3, 1)
def data():
    x = torch.arange(60.0).reshape(20, 3)
    return {name: (x, x[:, :1]) for name in ("train", "validation", "test")}
def loss(output, target): return (output - target).square().mean()
"""
WRONG = {
    "import nowhere_at_all": "ModuleNotFoundError: No module named 'nowhere_at_all'",
    "def model(: pass": "SyntaxError",
    "x = 1": "has no function model()",
    GOOD.replace("def loss", "def lost"): "has no function loss()",
    GOOD.replace("torch.nn.Linear(3, 1)", "3"): "model() returned 3, a torch.nn.Module is wanted",
    GOOD.replace("torch.nn.Linear(3, 1)", "1 / 0"): "model() failed (ZeroDivisionError",
    GOOD.replace('"test")', '"final")'): "data() must return a dict of train, validation, test",
    GOOD.replace("(x, x[:, :1])", "x"): "data()['train'] must be a pair (inputs, targets)",
    GOOD.replace("(x, x[:, :1])", "(x, x[:9, :1])"): "has 20 inputs and 9 targets",
    GOOD.replace("(x, x[:, :1])", "(x[:0], x[:0])"): "has 0 inputs and 0 targets",
    GOOD + "EPOCHS = 0": "EPOCHS must be at least 1, got 0",
    GOOD + "BATCH_SIZE = 'many'": "BATCH_SIZE is 'many'",
}
TINY = ("--optimizers", "rmsprop,sgd", "--budget", "2", "--seeds", "2", "--epochs", "1")


@pytest.fixture
def written(tmp_path):
    """A file with this content, whose folder is not left in the way of imports."""
    before = list(sys.path)

    def write(content, name="mine.py"):
        (tmp_path / name).write_text(content)
        return tmp_path / name

    yield write
    sys.path[:] = before


def test_what_new_task_writes_is_compared_as_it_is(tmp_path, capsys):
    assert main(["new-task", str(tmp_path / "moons.py")]) == 0
    assert "meansquare compare" in capsys.readouterr().out
    done = meansquare("compare", "moons.py", *TINY, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    folder = record.load(tmp_path / "runs" / "compare")
    facts = folder.facts["moons.py"]
    assert (facts["kind"], facts["metric"], facts["sizes"]["train"]) == (
        "own",
        "test accuracy",
        900,
    )
    digest = hashlib.sha256((tmp_path / "moons.py").read_bytes()).hexdigest()[:12]
    assert facts["notes"].endswith(f"sha256 {digest}.")


def test_new_task_is_short_and_overwrites_nothing(tmp_path, capsys):
    path = tmp_path / "mine.py"
    assert main(["new-task", str(path)]) == 0
    assert len(path.read_text().splitlines()) < 40
    capsys.readouterr()
    assert "is there already and was not changed" in refusal(capsys, "new-task", path)


def test_a_folder_of_another_version_of_the_file_is_refused(tmp_path, written, capsys):
    written(GOOD)
    done = meansquare("compare", "mine.py", *TINY, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    written(GOOD + "\n# changed")
    done = meansquare("compare", "mine.py", *TINY, cwd=tmp_path)
    assert done.returncode == 2
    assert "belongs to another mine.py" in done.stderr


@pytest.mark.parametrize("content", WRONG, ids=WRONG.values())
def test_what_keeps_a_file_from_being_a_task_is_told_in_one_line(content, written):
    path = written(content)
    with pytest.raises(LabError) as error:
        load_task(str(path))
    assert WRONG[content] in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_an_error_in_training_stops_the_comparison_with_one_line(tmp_path, written):
    written(GOOD.replace("(output - target)", "(output - target[:, :0] @ target)"))
    done = meansquare("compare", "mine.py", *TINY, cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("meansquare compare: mine.py with ")
    assert "RuntimeError" in line


def test_what_a_file_leaves_out_has_defaults(written):
    path = written(GOOD)
    facts = load_task(str(path)).facts
    assert (facts.metric, facts.higher_is_better, facts.batch_size) == ("test loss", False, 32)
    assert (facts.title, epochs_of(str(path))) == ("mine", 10)


def test_a_file_can_bring_a_task_whole(written):
    path = written(GOOD + "\ndef load(name):\n    return name.upper()")
    assert load_task(str(path)) == str(path).upper()


@pytest.mark.parametrize(
    ("name", "known"),
    [("digits", True), ("a/b.py", True), ("images:x", True), ("images:", False), ("digit", False)],
)
def test_what_may_be_a_task(name, known):
    assert is_task(name) == known


def test_its_metric_is_the_loss_where_it_has_none(written):
    task = load_task(str(written(GOOD)))
    score = task.start(0).validate()
    assert score.loss == score.metric
    assert torch.initial_seed() == 0
    assert Path(task.facts.name).name == "mine.py"


def test_the_example_of_the_docs_is_a_task_of_at_most_twenty_lines(written):
    page = (Path(__file__).parents[1] / "docs" / "lab.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len([line for line in example.splitlines() if line.strip()]) <= 20
    task = load_task(str(written(example, "of_the_docs.py")))
    assert task.facts.sizes == {"train": 900, "validation": 300, "test": 300}
    assert next(task.start(1).losses()).item() > 0
