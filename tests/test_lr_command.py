"""`meansquare lr`: a rate, its seeds and its price, and what it does not tell."""

import pytest
from conftest import meansquare as command


def test_the_command_tells_a_rate_its_seeds_and_its_price_and_draws_them(tmp_path):
    picture = tmp_path / "digits.svg"
    done = command("lr", "digits", "--seeds", 2, "--picture", picture)
    assert (done.returncode, done.stderr) == (0, "")
    assert "range test" in done.stdout
    assert "Begin at 0.00" in done.stdout
    assert picture.read_text().startswith("<?xml")


def test_of_an_agent_the_command_says_what_its_loss_does_not_tell():
    done = command("lr", "cartpole-a2c", "--seeds", 1)
    assert done.returncode == 0
    assert "does not tell how well it plays" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), "meansquare lr: TASKS: no task is called 'nothing'"),
        (("digits", "--seeds", "0"), "meansquare lr: --seeds must be at least 1, got 0"),
        (("digits", "--picture", "x.gif"), "meansquare lr: --picture must end with .svg or .png"),
        (("digits", "co2", "--picture", "x.svg"), "one task where there is a picture"),
        (("digits", "--optimizer", "x"), "no optimizer is called 'x'"),
    ],
)
def test_the_command_refuses_in_one_line(arguments, message, tmp_path):
    done = command("lr", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
