"""A wrong command line gets one line that says what to do, exit code 2, and changes nothing."""

import importlib.util
import resource
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import TINY, meansquare

from meansquare import Adam, RMSProp
from meansquare.lab.cli import main

REFUSALS = {
    (
        "compare",
        "--optimizers",
        "rmsprp",
    ): "no optimizer is called 'rmsprp'; did you mean 'rmsprop'?",
    ("compare", "digit"): "no task is called 'digit'; did you mean 'digits'?",
    ("compare", "digits", "digits"): "'digits' is named twice",
    ("compare", "--budget", "0"): "--budget must be at least 1, got 0",
    ("compare", "--seeds", "-1"): "--seeds must be at least 1, got -1",
    ("compare", "--jobs", "0"): "--jobs must be at least 1, got 0",
    ("compare", "--epochs", "0"): "--epochs must be at least 1, got 0",
    ("compare", "--budget", "many"): "Invalid value for '--budget'",
    ("compare", "--learning-rate", "1"): "No such option: --learning-rate",
    ("compare", "--search", "some"): "--search must be lr or all, got 'some'",
    ("compare", "--engine", "spark"): "--engine must be local or ray, got 'spark'",
    ("compare", "--time-budget", "soon"): "--time-budget must be a time such as 90s, 15m or 1.5h",
    ("compare", "mine.py"): "cannot import mine.py (ImportError: no file",
    ("compare", "images:here"): "images:here",
    ("compare", "phishing", "--epochs", "11"): "phishing ends after 10 periods; ask for 10",
    ("claims", "everything"): "no claim is called 'everything'",
    ("new-task", "mine.txt"): "mine.txt must end with .py",
    ("train",): "No such command 'train'",
    ("report",): "Missing argument 'folder'",
    ("report", "/nowhere/at/all"): "cannot read /nowhere/at/all/records.jsonl",
}


def refusal(capsys, *arguments):
    assert main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return line


@pytest.mark.parametrize("arguments", REFUSALS, ids=" ".join)
def test_a_wrong_argument_is_refused_in_one_line(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = refusal(capsys, *arguments)
    assert line.startswith("meansquare")
    assert REFUSALS[arguments].lower() in line.lower()
    assert list(tmp_path.iterdir()) == []


def test_a_process_refuses_with_code_two_and_no_traceback(tmp_path):
    done = meansquare("compare", "mnist", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("meansquare compare: TASKS: no task is called 'mnist'")
    assert done.stderr.count("\n") == 1


def test_a_folder_of_another_configuration_is_refused_and_kept(finished, capsys):
    before = (finished / "records.jsonl").read_bytes()
    line = refusal(capsys, "compare", "--out", finished, "--budget", "3")
    assert "belongs to another configuration (budget: 2 there, 3 asked)" in line.replace('"', "")
    assert (finished / "records.jsonl").read_bytes() == before


def test_a_file_or_a_foreign_folder_in_place_of_a_run_folder_is_refused(capsys, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "is a file, a folder is wanted" in refusal(capsys, "compare", "--out", tmp_path / "file")
    assert "holds 'file' but no records.jsonl" in refusal(capsys, "compare", "--out", tmp_path)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_damaged_line_is_told_and_the_report_made_of_the_others(finished, tmp_path):
    lines = (finished / "records.jsonl").read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:2], b"{half a line\n", *lines[3:]])
    (tmp_path / "records.jsonl").write_bytes(damaged)
    done = meansquare("report", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "line 3 is damaged and skipped: not JSON." in done.stdout
    assert "Runs are missing, at least 3; continue with: meansquare compare" in done.stdout
    assert (tmp_path / "report.html").exists()
    assert (tmp_path / "records.jsonl").read_bytes() == damaged


def test_a_place_that_cannot_be_written_is_refused(capsys):
    line = refusal(capsys, "compare", "--out", "/proc/meansquare", *TINY)
    assert "cannot write /proc/meansquare" in line
    assert "choose another --out" in line


def test_a_full_disk_keeps_what_was_recorded(finished, tmp_path):
    whole = (finished / "records.jsonl").read_bytes()
    kept = b"".join(whole.splitlines(keepends=True)[:-4])
    (tmp_path / "records.jsonl").write_bytes(kept)
    limit = (len(kept) + 300,) * 2
    done = meansquare(
        "compare", "--out", tmp_path, *TINY, "--jobs", "1",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )  # fmt: skip
    assert done.returncode == 2
    assert "cannot write" in done.stderr.splitlines()[-1]
    assert (tmp_path / "records.jsonl").read_bytes() == kept


def test_a_missing_extra_is_named_with_the_command_that_installs_it(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = importlib.util.find_spec
    hidden = {"sklearn", "jinja2"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n in hidden else found(n))
    line = refusal(capsys, "compare")
    assert line.endswith("needs sklearn, jinja2; run: pip install 'meansquare[lab]'")


def test_the_doctor_tells_versions_and_backends(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("torch", "numpy", "cores", "cpu", "gpu", "reference"))


def saved(path, kind=RMSProp, **options):
    """A file of the state of two groups of parameters, stepped 3 and 4 times."""
    one, other = (torch.nn.Parameter(torch.ones(8)) for _ in range(2))
    opt = kind([{"params": [one], **options}, {"params": [other]}])
    for turn in range(4):
        one.grad = torch.ones(8) if turn else None
        other.grad = torch.ones(8)
        opt.step()
    torch.save({"optimizer": opt.state_dict(), "epoch": 3}, path)
    return path


@pytest.mark.parametrize(
    ("kind", "maker"),
    [
        (RMSProp, "meansquare.RMSProp"),
        (torch.optim.RMSprop, "torch.optim.RMSprop"),
        (Adam, "meansquare.Adam"),
        (torch.optim.Adam, "torch.optim.Adam"),
        (torch.optim.Adadelta, "another (its state has 'acc_delta'"),
    ],
)
def test_the_doctor_tells_what_a_checkpoint_holds(kind, maker, capsys, tmp_path):
    options = {"momentum": 0.9} if maker.lower().endswith("rmsprop") else {}
    assert main(["doctor", str(saved(tmp_path / "[b]x.pt", kind, **options))]) == 0
    out = capsys.readouterr().out
    facts = [maker, "[b]x.pt", "2, 2 with state", "float32, ", "3 to 4"]
    facts += ["in groups 0"] if options else []
    assert [fact for fact in facts if fact not in out] == []
    assert "numpy" not in out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.unlink(), "x.pt: No such file or directory; give the path of a file"),
        (lambda path: path.write_bytes(path.read_bytes()[:900]), "x.pt: it is damaged or no check"),
        (lambda path: path.write_text("text\n[/b]"), "x.pt: it is damaged or no checkpoint"),
        (lambda path: torch.save(torch.ones(2), path), "x.pt: it holds no state dict of an optim"),
        (
            lambda path: torch.save(damage(path, "step", -1), path),
            "of group 0 must be a count",
        ),
        (lambda path: torch.save(damage(path, "step", [[]]), path), "be a count, got [[]]"),
    ],
    ids=["missing", "cut", "text", "tensor", "negative_step", "list_of_step"],
)
def test_the_doctor_refuses_a_damaged_checkpoint_in_one_line(change, words, capsys, tmp_path):
    change(saved(tmp_path / "x.pt"))
    line = refusal(capsys, "doctor", tmp_path / "x.pt")
    assert line.startswith("meansquare doctor: ")
    assert words in line


def damage(path, name, value):
    held = torch.load(path, weights_only=True)
    held["optimizer"]["state"][0][name] = value
    return held


def test_report_rebuilds_the_page(finished, tmp_path):
    shutil.copy(finished / "records.jsonl", tmp_path)
    assert meansquare("report", tmp_path).returncode == 0
    assert (tmp_path / "report.html").read_text() == (finished / "report.html").read_text()


def test_a_terminal_that_takes_no_more_is_told_in_one_line():
    code = "from meansquare.lab.cli import main; raise SystemExit(main())"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code, "doctor"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 2
    reason = b"cannot print here: No space left on device; print elsewhere."
    assert done.stderr == b"meansquare doctor: " + reason + b"\n"
