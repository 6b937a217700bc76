"""docs/family.md: its maths are the steps taken, its table is what is measured."""

import itertools
import math
import re
from pathlib import Path

import numpy as np
import page
import pytest
import torch
from page import ROWS, buffers_after, letters_of, moves, options_of
from torch.optim import Optimizer

import meansquare
from meansquare.lab.setups import SETUPS, USUAL

MATHS = page.maths_of_the_page()
TABLE = page.table_of("The table")
HOME = page.table_of("Where each is at home")
ROUNDING = 1e-12  # relative, of sums and roots in float64
every_row = pytest.mark.parametrize("name", ROWS)

NUMBERS = {  # unlike the defaults, and such that each matters
    "lr": 0.1, "mu": 0.8, "alpha": 0.9, "eps": 0.02, "beta1": 0.7, "beta2": 0.95,
    "weight_decay": 0.3, "eta_minus": 0.4, "eta_plus": 1.3,
}  # fmt: skip
SETTINGS = NUMBERS | {
    "momentum": NUMBERS["mu"],
    "betas": (NUMBERS["beta1"], NUMBERS["beta2"]),
    "etas": (NUMBERS["eta_minus"], NUMBERS["eta_plus"]),
}
GRADIENTS = (0.5, -2.0, -1.5, 3.0, 0.25)


def path_of_the_page(code):
    """Where a weight of 1 comes to by the page's own lines."""
    letters = NUMBERS | dict.fromkeys("bsvmx", 0.0) | {"sqrt": math.sqrt, "sign": np.sign}
    letters |= {"p": 1.0, "prev": 0.0, "size": NUMBERS["lr"]}
    for t, g in enumerate(GRADIENTS, 1):
        exec(code, letters := letters | {"t": t, "g": g})
        yield letters["p"]


def path_of_the_optimizer(name):
    p = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    opt = ROWS[name][0]([p], **options_of(name, **SETTINGS))
    for g in GRADIENTS:
        p.grad = torch.full_like(p, g)
        opt.step()
        yield p.item()


@pytest.mark.parametrize("name", MATHS)
def test_each_line_of_maths_is_the_step_that_is_taken(name):
    path = [*path_of_the_page(MATHS[name].code)]
    assert path == pytest.approx([*path_of_the_optimizer(name)], rel=ROUNDING, abs=0)


def is_within(tokens, others):
    """Whether these tokens stand among the others in this order."""
    rest = iter(others)
    return all(token in rest for token in tokens)


@pytest.mark.parametrize("name", [name for name in MATHS if MATHS[name].parent])
def test_what_is_bold_is_what_the_parent_does_not_have(name):
    theirs = ["v" if word == "s" else word for word, _ in MATHS[MATHS[name].parent].tokens]
    runs = [(bold, [*run]) for bold, run in itertools.groupby(MATHS[name].tokens, lambda x: x[1])]
    marks = [mark for mark, (bold, _) in enumerate(runs) if bold]
    assert marks
    for own in (None, *marks):  # without any mark, then with each of them as if it were not one
        kept = [run for i, (bold, run) in enumerate(runs) if not bold or i == own]
        words = ["v" if word == "s" else word for run in kept for word, _ in run]
        assert is_within(words, theirs) == (own is None), "".join(words)


def test_the_page_tells_of_every_optimizer_of_the_package_and_each_table_of_all():
    public = [getattr(meansquare, name) for name in meansquare.__all__]
    kinds = {one for one in public if isinstance(one, type) and issubclass(one, Optimizer)}
    assert {kind for kind, _ in ROWS.values()} == kinds
    assert list(TABLE) == list(HOME) == list(ROWS)
    assert [*MATHS] == [name for name in ROWS if name != "RMSProp with both"]


def steps(name, gradients, **numbers):
    """How far one weight moves in each step, without eps."""
    options = options_of(name, eps=0.0, **numbers)
    return moves(ROWS[name][0], [[g] for g in gradients], **options)[:, 0].tolist()


@every_row
def test_it_adapts_what_the_table_says(name):
    goes_on = steps(name, [1, 0])[1] != 0
    last, other, twice = (steps(name, x)[-1] for x in ([1] * 4, [1, 8, -8, 1], [2] * 4))
    adapts = ["direction"] * goes_on + ["size"] * (last != other and twice != 2 * last)
    assert TABLE[name]["adapts"] == (", ".join(adapts) or "nothing")


LETTERS = {  # a buffer as state has it: its letter on the page
    "momentum_buffer": "b", "square_avg": "v", "exp_avg_sq": "v", "grad_avg": "m", "exp_avg": "m",
    "sum": "s", "max_exp_avg_sq": "x", "prev": "prev", "step_size": "size",
}  # fmt: skip
LONG, FAST = 128, {"alpha": 0.5, "betas": (0.5, 0.5), "momentum": 0.5}
HOLDS = {  # after so many gradients of 3, where each step halves what is remembered
    "mean of `g`": 3.0,
    "last `g`": 3.0,
    "sum of `g`": 6.0,
    "mean of `g*g`": 9.0,
    "largest `v`": 9.0,
    "sum of `g*g`": LONG * 9.0,
    "sum of `g/sqrt(v)`": 2.0,
    "sum of `g/sqrt(v-m*m)`": 2.0 * 2**24.5,  # the variance is held above v * 2**-49
    "step": 50.0,
}


def by_letter(name, gradients):
    state = buffers_after(name, [[g] for g in gradients], torch.float64, eps=0.0, **FAST)
    return {LETTERS[key]: value.item() for key, value in state.items()}


@every_row
def test_it_accumulates_what_the_table_says(name):
    items = re.findall(
        r"`(\w+)` ((?:\w+ of |last |largest )`.*?`|step)", TABLE[name]["accumulates"]
    )
    said = {letter: HOLDS[what] for letter, what in items}
    assert (", ".join(f"`{x}` {y}" for x, y in items) or "nothing") == TABLE[name]["accumulates"]
    assert by_letter(name, [3.0] * LONG) == pytest.approx(said, rel=ROUNDING)


@every_row
def test_it_forgets_what_the_table_says(name):
    left = by_letter(name, [3.0] * LONG + [0.0] * LONG)
    kept = [letter for letter, value in left.items() if abs(value) > 1e-9]
    some = {0: "yes", len(left): "no"}.get(len(kept)) or f"all but `{', '.join(kept)}`"
    assert TABLE[name]["forgets"] == (some if left else "—")


@every_row
def test_it_has_as_many_learning_rates_as_the_table_says(name):
    options = options_of(name, eps=0.0)
    small, large = moves(ROWS[name][0], [[1.0, 100.0]], **options)[0].tolist()
    said = {"one": 100.0, "per weight": 1.0}[TABLE[name]["learning rate"]]
    assert large / small == pytest.approx(said, rel=ROUNDING)


@every_row
def test_its_first_step_is_as_long_as_the_later_ones_where_the_table_says_it_is_corrected(name):
    first, *_, last = steps(name, [3.0] * LONG, **FAST)
    corrected = "yes" if first == pytest.approx(last, rel=ROUNDING) else "no"
    averages = "mean of" in TABLE[name]["accumulates"]
    assert TABLE[name]["bias correction"] == (corrected if averages else "—")


@every_row
def test_it_keeps_and_moves_as_many_bytes_as_the_table_says(name):
    weights, buffers = 1000, ROWS[name][0]._kind.checked(ROWS[name][1], name).rule.buffers
    g = torch.full((weights,), 0.1)
    before, after = buffers_after(name, [g]), buffers_after(name, [g, 2 * g])
    assert tuple(after) == buffers
    assert all((before[key] != after[key]).all() for key in buffers), "each is written"
    kept = sum(value.nbytes for value in after.values()) / weights
    assert TABLE[name]["state, bytes"] == f"{kept:.0f}"
    assert TABLE[name]["moved, bytes"] == str(4 * (3 + 2 * len(buffers)))


def value_of(cell, name, **letters):
    """What a cell's formula comes to, in learning rates; a number behind it is to be that."""
    formula, number = re.fullmatch(r"(?:about )?`(.*)`(?: = (.*) lr)?", cell).groups()
    letters = letters_of(name) | letters
    value = eval(formula, letters) / letters["lr"]
    assert number in (None, f"{value:.{len((number or '').partition('.')[2])}f}")
    return value * letters["lr"]


@every_row
@pytest.mark.parametrize("g", [3.0, -0.02])
def test_its_first_step_is_that_of_the_table(name, g):
    (first,) = steps(name, [g])
    said = value_of(TABLE[name]["first step"], name, g=g)
    assert abs(first) == pytest.approx(said, rel=ROUNDING, abs=0)


def trying_gradients(quiet=10_000, end=100):
    """Columns of gradients that make long steps: a spike after silence; rising to the end by
    factors of 0.999/0.9 (where Adam's is longest), of 10 and of 1000; random; many that stay.
    """
    times = torch.arange(end, dtype=torch.float64) - end // 2
    ends = [torch.eye(end).double()[-1] + 1e-9, *(x**times for x in (0.999 / 0.9, 10, 1000))]
    source = torch.Generator().manual_seed(0)
    random = torch.randn(quiet + end, 1, generator=source, dtype=torch.float64)
    same = torch.rand(1, 50, generator=source, dtype=torch.float64).expand(quiet + end, 50)
    silent = torch.stack([torch.cat([x[:1].expand(quiet), x]) for x in ends], dim=1)
    return torch.cat([silent, random, same], dim=1)


@every_row
def test_its_largest_step_is_that_of_the_table(name):
    kind, cell = ROWS[name][0], TABLE[name]["largest step"]
    if cell == "no limit":
        assert steps(name, [1e9])[0] == pytest.approx(1e9 * steps(name, [1.0])[0], rel=ROUNDING)
        return
    centered, said = "centered" in options_of(name), value_of(cell, name)
    gradients, dtype = trying_gradients(), torch.float32 if centered else torch.float64
    gradients = gradients.clamp(-1e15, 1e15) if centered else gradients  # float32 squares no more
    largest = moves(kind, gradients, dtype, **options_of(name, eps=0.0)).abs().max().item()
    # About: v may lie below the gradient's square. Else the bound holds, but for rounding, and is
    # come near to: after 10 000 steps bias correction still shortens Adam's by 2e-5.
    above, below = (0.02, 0.02) if cell.startswith("about") else (ROUNDING, 1e-3)
    assert said * (1 - below) <= largest <= said * (1 + above)


SOURCE = r"(?:[A-Z][a-z]+ )(?:& [A-Z][a-z]+ |et al\. )?(?:19|20)\d\d(?:, in their code)?"


@every_row
def test_where_it_is_at_home_is_shown_by_a_claim_of_the_page_or_a_named_source(name):
    anchors = {page.anchor(heading) for heading in page.claims_of_the_page()}
    for source in HOME[name]["shown by"].split("; "):
        link = re.fullmatch(r"\[[\w -]+\]\(#(.*)\)", source)
        assert link[1] in anchors if link else re.fullmatch(SOURCE, source), source


def test_the_optimizers_that_the_page_says_are_compared_are_those_of_the_lab():
    (named,) = re.findall(r"`meansquare compare` trains (.*?) with", page.TEXT, re.DOTALL)
    named = re.split(r",\s|\sand\s", named)
    assert [name.lower() for name in named] == [SETUPS[name].label.lower() for name in USUAL]


def test_readme_and_design_link_the_page():
    root = Path(page.__file__).parents[1]
    assert "(docs/family.md)" in (root / "README.md").read_text()
    assert "(family.md)" in (root / "docs" / "design.md").read_text()
