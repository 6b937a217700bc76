"""What is no rule, or no setting of one, is refused in one line where it is written."""

from pathlib import Path

import pytest
import torch
from conftest import meansquare
from torch import nn

from meansquare import optimizer
from meansquare.rules import choose

EXAMPLE = Path(__file__).parents[1] / "examples" / "lion.py"


@optimizer(lr=0.01, beta=0.9)
def Debiased(h, p, g, v=0.0):  # noqa: N802
    v = h.beta * v + (1 - h.beta) * g * g
    return p - h.lr * g * (v / (1 - h.beta**h.t)), v


def number(h, p, g):
    return p


def no_gradient(h, p, v):
    return p


def too_many(h, p, g, a, b, c, d):
    return p, a, b, c, d


def a_step(h, p, g, step):
    return p, step


def none(h, p, g, m):
    return p, None


def one_short(h, p, g, m):
    return p


def two_numbers(h, p, g):
    return p - h.lr * choose(g > 0, 1.0, -1.0)


REFUSED = {
    "None": (
        none,
        {"lr": 1.0},
        r"none: a rule returns what it writes, \(p, m\), got \(Tensor, None",
    ),
    "too few": (one_short, {"lr": 1.0}, r"returns what it writes, \(p, m\), got \(Tensor\)"),
    "numbers": (two_numbers, {"lr": 1.0}, "choose: x or y must be an element where the condition"),
    "ours": (number, {"lr": 1.0, "max_update": 1.0}, "'max_update' has a meaning of its own"),
    "torch's": (number, {"lr": 1.0, "param_names": 1.0}, "'param_names' has a meaning of its own"),
    "hidden": (number, {"lr": 1.0, "_tape": 1.0}, "'_tape' has a meaning of its own"),
    "no function": (int, {"lr": 1.0}, "int: a rule is a function, got"),
    "no lr": (number, {"beta": 0.9}, "number: a rule needs lr among its settings, got .'beta'."),
    "negative lr": (number, {"lr": -1.0}, "number: lr must be finite and >= 0, got -1.0"),
    "a word": (number, {"lr": 1.0, "beta": "much"}, "beta must be a number, got 'much'"),
    "not finite": (number, {"lr": 1.0, "beta": float("nan")}, "beta must be finite, got nan"),
    "a taken name": (number, {"lr": 1.0, "seed": 1.0}, "'seed' has a meaning of its own; rename"),
    "other arguments": (no_gradient, {"lr": 1.0}, r"takes h, p, g and its buffers, got \(h, p, v"),
    "four buffers": (too_many, {"lr": 1.0}, "too_many: a rule has at most 3 buffers, got 4"),
    "a step": (a_step, {"lr": 1.0}, "'step' is the count of steps in the state; rename"),
}


@pytest.mark.parametrize(("function", "settings", "message"), REFUSED.values(), ids=REFUSED)
def test_a_rule_of_another_form_is_refused(function, settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        optimizer(**settings)(function)


WRONG = {
    "beta": (float("inf"), "Debiased: beta must be finite, got inf"),
    "lr": (-1.0, "Debiased: lr must be finite and >= 0, got -1.0"),
    "gamma": (0.1, "Debiased: got an unexpected keyword argument 'gamma'"),
    "clip_value": (0.0, "Debiased: clip_value must be finite and > 0, got 0.0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_settings_are_refused_in_one_line(name):
    value, message = WRONG[name]
    with pytest.raises((TypeError, ValueError), match=message):
        Debiased([nn.Parameter(torch.ones(1))], **{name: value})


@pytest.mark.parametrize(
    "name", ["nowhere.py:Lion", f"{EXAMPLE}:Tiger", f"{EXAMPLE}:sign", "no.such.module:Lion"]
)
def test_the_lab_refuses_what_it_cannot_import_and_writes_nothing(name, tmp_path):
    done = meansquare("compare", "--optimizers", name, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("meansquare compare: --optimizers: ")
    assert [*tmp_path.iterdir()] == []


def test_the_lab_does_not_go_on_with_another_rule_in_the_same_file(tmp_path):
    rule = tmp_path / "mine.py"
    rule.write_text(EXAMPLE.read_text())
    few = ("digits", "--budget", 1, "--seeds", 1, "--epochs", 1, "--jobs", 1)
    call = ("compare", "--out", tmp_path / "run", "--optimizers", "mine.py:Lion", *few)
    assert meansquare(*call, cwd=tmp_path).returncode == 0
    assert meansquare(*call, cwd=tmp_path).returncode == 0
    rule.write_text(EXAMPLE.read_text().replace("p - h.lr * u", "p + h.lr * u"))
    done = meansquare(*call, cwd=tmp_path)
    assert (done.returncode, "belongs to another mine.py:Lion" in done.stderr) == (2, True)
