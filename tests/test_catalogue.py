"""`meansquare dialects` and `meansquare recipes` show every row, and one in full."""

import pytest
from conftest import meansquare

from meansquare.dialects import DIALECTS
from meansquare.maths import maths
from meansquare.recipes import RECIPES

WIDE = {"COLUMNS": "300"}


def shown(*arguments):
    done = meansquare(*arguments, env=WIDE)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_every_dialect_is_a_row_with_its_step():
    text = shown("dialects")
    for row in DIALECTS.values():
        assert row.name in text
        assert maths(row.hyper()) in text


@pytest.mark.parametrize("command", ["dialects", "recipes"])
def test_nothing_is_cut_off_in_a_narrow_terminal(command):
    done = meansquare(command, env={"COLUMNS": "80"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "\u2026" not in done.stdout


def test_one_dialect_is_shown_in_full():
    text = shown("dialects", "keras")
    row = DIALECTS["keras"]
    for words in (
        row.label,
        "rho = alpha",
        "velocity = square_avg",
        "clipnorm",
        row.source,
        "run:",
    ):
        assert words in text
    assert "b = mu*b + lr*g/sqrt(v + eps);  p = p - b" in text


def test_every_recipe_is_a_row_and_one_is_shown_in_full():
    text = shown("recipes")
    assert all(one.name in text and one.title in text for one in RECIPES.values())
    one = shown("recipes", "wgan")
    assert RECIPES["wgan"].besides in one
    assert "p = p - lr*g/(sqrt(v) + eps)" in one


@pytest.mark.parametrize("command", ["dialects", "recipes"])
def test_a_name_that_there_is_not_is_one_line_and_code_2(command):
    done = meansquare(command, "none\nsuch")
    assert done.returncode == 2
    assert done.stderr.startswith(f"meansquare {command}: ")
    assert done.stderr.count("\n") == 1
