"""The line of maths that is shown is the step that is taken."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meansquare import RMSProp
from meansquare.dialects import DIALECTS
from meansquare.maths import maths

ROUNDING = 1e-9  # relative to the largest weight: sums, roots and differences in float64
PAGE = Path(__file__).parents[1] / "docs" / "dialects.md"
NUMBERS = {"lr": 0.1, "alpha": 0.8, "eps": 0.05}
WORDS = {
    "sqrt": np.sqrt,
    "mean": np.mean,
    "max": np.maximum,
    "min": np.minimum,
    "clip": np.clip,
    "norm": np.linalg.norm,
}


def gradients(steps=6, n=5):
    return np.random.default_rng(0).standard_normal((steps, n)) * np.logspace(-1, 1, n)


def path_of_the_line(line, settings):
    """Where the weights come to by executing the line."""
    statements, _, first = line.partition("  (v begins at ")
    v = float(first.rstrip(")") or 0)
    letters = WORDS | settings | {"p": np.ones(5), "v": v, "m": 0.0, "b": 0.0}
    letters["mu"] = settings["momentum"]
    for t, g in enumerate(gradients(), 1):
        exec(statements.replace(";  ", "\n"), letters := letters | {"t": t, "g": g, "G": g})
        yield letters["p"]


def path_of_the_optimizer(opt):
    p = opt.param_groups[0]["params"][0]
    for g in gradients():
        p.grad = torch.from_numpy(g)
        opt.step()
        yield p.detach().numpy().copy()


def made(**options):
    return RMSProp([torch.nn.Parameter(torch.ones(5, dtype=torch.float64))], **options)


def agrees(opt):
    group = {name: opt.param_groups[0][name] for name in opt.param_groups[0] if name != "params"}
    theirs, ours = [*path_of_the_line(opt.rule(0), group)], [*path_of_the_optimizer(opt)]
    return np.abs(np.array(theirs) - ours).max() <= ROUNDING * np.abs(ours).max()


@pytest.mark.parametrize("momentum", [None, 0.0, 0.7])
@pytest.mark.parametrize("name", DIALECTS)
def test_the_line_of_a_dialect_is_the_step_that_is_taken(name, momentum):
    own = {} if momentum is None or name == "bitsandbytes" else {"momentum": momentum}
    row = DIALECTS[name]
    assert agrees(made(dialect=name, **NUMBERS | own))
    assert maths(row.hyper(**own)) == made(dialect=name, lr=1.0, **own).rule(0)


options = st.fixed_dictionaries(
    {
        "eps_place": st.sampled_from(["outside", "inside", "max", "inside_with_momentum"]),
        "momentum": st.sampled_from([0.0, 0.6]),
        "nesterov": st.booleans(),
        "lr_in_momentum": st.booleans(),
        "centered": st.booleans(),
        "bias_correction": st.booleans(),
        "initial_square_avg": st.sampled_from([0.0, 1.0, 2.5]),
        "weight_decay": st.sampled_from([0.0, 0.3]),
        "weight_decay_mode": st.sampled_from(["l2", "decoupled", "corrected"]),
        "reference_lr": st.sampled_from([0.0, 0.4]),
        "maximize": st.booleans(),
        "clip_value": st.sampled_from([None, 0.5]),
        "max_grad_norm": st.sampled_from([None, 0.5, 1e6]),
        "grad_norm_eps": st.sampled_from([0.0, 1e-6]),
        "scaled": st.sampled_from(["", "cautious", "max_update_rms"]),
    }
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(options)
@example({"scaled": "cautious", "momentum": 0.6})
@example({"scaled": "max_update_rms", "bias_correction": True})
def test_the_line_of_any_settings_is_the_step_that_is_taken(chosen):
    scaled = chosen.pop("scaled")
    chosen |= {"cautious": scaled == "cautious"}
    chosen |= {"max_update_rms": 0.7 if scaled == "max_update_rms" else None}
    # Corrected and centered from 0, the variance of the first step is rounding: no line tells it.
    chosen["initial_square_avg"] = chosen.get("initial_square_avg", 0.0) or 0.5
    assert agrees(made(**NUMBERS | chosen))


def test_a_held_variance_is_in_the_line():
    """Of float32, whose floor the line names: equal gradients have no variance."""
    p = torch.nn.Parameter(torch.zeros(1))
    opt = RMSProp([p], centered=True, eps=0.0, bias_correction=True, lr=1.0)
    p.grad = torch.full((1,), 0.5)
    opt.step()
    assert "2**-20*v" in opt.rule(0)
    assert p.item() == pytest.approx(-math.sqrt(2.0**20), rel=1e-3)


def test_the_example_of_the_page_runs():
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(compile(example, PAGE.name, "exec"), {"params": [torch.nn.Parameter(torch.ones(2))]})
    assert example.count("RMSProp(params") == 6


def test_the_page_has_the_tables_that_are_printed_now():
    text = PAGE.read_text()
    for row in DIALECTS.values():
        statements = maths(row.hyper()).partition("  (")[0].split(";  ")
        assert f"| `{row.name}` | {'<br>'.join(f'`{one}`' for one in statements)}" in text
