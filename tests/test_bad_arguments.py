"""Every wrong argument gets one line that says what and where, and changes nothing."""

import itertools
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from snapshot import contents, one_line
from torch import nn
from twins import every_dtype, layouts, parameters, walk

from meansquare import RMSProp

nan, inf = math.nan, math.inf
NEGATIVE_OR_NOT_FINITE = (
    -1,
    -1e-30,
    nan,
    inf,
    -inf,
    torch.tensor(-0.5),
    torch.tensor(nan),
    np.float32("inf"),
)
NO_NUMBERS = (
    "0.1",
    None,
    [0.1],
    1j,
    torch.ones(2),
    torch.ones(0),
    np.ones(3),
    torch.tensor(1j),
    10**400,
    {},
)
BAD_VALUES = {
    "lr": NEGATIVE_OR_NOT_FINITE,
    "alpha": (*NEGATIVE_OR_NOT_FINITE, 1, 1.5),
    "eps": NEGATIVE_OR_NOT_FINITE,
    "weight_decay": NEGATIVE_OR_NOT_FINITE,
    "momentum": NEGATIVE_OR_NOT_FINITE,
    "initial_square_avg": NEGATIVE_OR_NOT_FINITE,
    "reference_lr": NEGATIVE_OR_NOT_FINITE,
    "eps_place": ("under", None, 1, ["inside"]),
    "weight_decay_mode": ("L2", None, True),
    "seed": (-1, 2**64, 0.5, "1", None),
}
NUMBERS = ("lr", "alpha", "eps", "weight_decay", "momentum", "initial_square_avg", "reference_lr")
FLAGS = (
    "centered",
    "maximize",
    "nesterov",
    "lr_in_momentum",
    "bias_correction",
    "capturable",
    "differentiable",
)
BAD_FLAGS = (2, -1, 0.5, "yes", None, [], torch.tensor([True, False]), np.array([True]), nan)
WRONG = [
    *((name, value, ValueError) for name, values in BAD_VALUES.items() for value in values),
    *(
        (n, v, TypeError)
        for n in NUMBERS
        for v in NO_NUMBERS
        if n != "reference_lr" or v is not None
    ),
    *itertools.product(FLAGS, BAD_FLAGS, [TypeError]),
    *itertools.product(("foreach", "fused"), (2, "yes", torch.ones(2)), [TypeError]),
]
IDS = [f"{name}={str(value)[:20]}" for name, value, _ in WRONG]


def assert_refuses(opt, call, kind, *words):
    before = contents(opt)
    with pytest.raises(kind) as error:
        call()
    assert one_line(error.value, *words)
    assert contents(opt) == before


@pytest.mark.parametrize(("name", "value", "kind"), WRONG, ids=IDS)
def test_the_constructor_refuses_it_in_one_line(name, value, kind):
    with pytest.raises(kind) as error:
        RMSProp(layouts(), **{name: value})
    assert one_line(error.value, f"{name} must be")
    assert str(error.value).endswith("in group 0")


@pytest.mark.parametrize(("name", "value", "kind"), WRONG, ids=IDS)
def test_a_new_group_with_it_is_not_added(name, value, kind):
    opt = RMSProp(layouts())
    walk((opt,), 1)
    group = {"params": layouts(), name: value}
    assert_refuses(opt, lambda: opt.add_param_group(group), kind, f"{name} must be", "in group 1")


@pytest.mark.parametrize(("name", "value", "kind"), WRONG, ids=IDS)
def test_set_in_mid_run_it_stops_the_step_before_anything_is_written(name, value, kind):
    opt = every_dtype()
    opt.param_groups[-1][name] = value
    assert_refuses(opt, opt.step, kind, f"{name} must be", "in group 3")


def test_after_an_error_the_step_goes_on_as_if_nothing_had_been():
    opt, plain = every_dtype(), every_dtype()
    for name, value in (("lr", -1), ("centered", "yes"), ("alpha", torch.ones(2))):
        kept = opt.param_groups[-1][name]
        opt.param_groups[-1][name] = value
        with pytest.raises((ValueError, TypeError)):
            opt.step()
        opt.param_groups[-1][name] = kept
    opt.step()
    plain.step()
    assert all(map(torch.equal, parameters(opt), parameters(plain)))


@pytest.mark.parametrize(
    "value", [1, 0, True, np.float64(0.5), np.float32(0.5), torch.tensor([0.5]), torch.tensor(1)]
)
def test_anything_that_is_one_number_is_a_learning_rate(value):
    opt, plain = RMSProp(layouts(), lr=value), RMSProp(layouts(), lr=float(value))
    walk((opt, plain), 2)
    assert all(map(torch.equal, parameters(opt), parameters(plain)))


def test_numbers_that_change_in_place_are_read_anew():
    lr: Any = np.array(0.5)
    opt, plain = RMSProp(layouts(), lr=lr), RMSProp(layouts(), lr=0.5)
    walk((opt, plain), 1)
    lr[...], plain.param_groups[0]["lr"] = 0.25, 0.25
    walk((opt, plain), 1, first=1)
    assert all(map(torch.equal, parameters(opt), parameters(plain)))


CONSTRUCTED = {
    "a_tensor": (lambda: torch.ones(2), TypeError),
    "nothing": (lambda: [], ValueError),
    "no_tensors": (lambda: [1.0], TypeError),
    "a_set": (lambda: [{"params": {nn.Parameter(torch.ones(2))}}], TypeError),
    "a_result": (lambda: [torch.ones(2, requires_grad=True) * 2], ValueError),
    "half_named": (
        lambda: [("a", nn.Parameter(torch.ones(2))), nn.Parameter(torch.ones(2))],
        ValueError,
    ),
    "in_two_groups": (
        lambda: [{"params": p} for p in [nn.Parameter(torch.ones(2))] * 2],
        ValueError,
    ),
}


@pytest.mark.parametrize(("params", "kind"), CONSTRUCTED.values(), ids=CONSTRUCTED)
def test_params_that_torch_refuses_are_refused_alike(params, kind):
    for optimizer in (RMSProp, torch.optim.RMSprop):
        with pytest.raises(kind):
            optimizer(params())


@pytest.mark.parametrize("group", [[1], None, "params", {"params": [1]}, {"params": "p"}], ids=repr)
def test_what_is_no_group_is_refused_alike_and_not_added(group):
    opt = RMSProp(layouts())
    with pytest.raises(TypeError):
        opt.add_param_group(group)
    assert len(opt.param_groups) == 1


def test_an_option_that_does_not_exist_is_refused():
    unknown: dict[str, Any] = {"betas": (0.9, 0.99)}
    with pytest.raises(TypeError, match="RMSProp: dialect 'torch' has no argument 'betas'"):
        RMSProp(layouts(), **unknown)


@given(
    name=st.sampled_from(NUMBERS),
    value=st.one_of(
        st.floats(), st.integers(), st.text(max_size=3), st.none(), st.complex_numbers()
    ),
)
@settings(deadline=None, max_examples=200, derandomize=True)
def test_any_value_is_taken_or_refused_in_one_line(name, value):
    good = isinstance(value, (int, float)) and 0 <= value < (1 if name == "alpha" else inf)
    good = good or (name == "reference_lr" and value is None)
    opt = RMSProp([p := nn.Parameter(torch.ones(2))])
    p.grad = torch.ones(2)
    opt.param_groups[0][name] = value
    if good and abs(value or 0) < 1e300:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            opt.step()
        assert opt.state[p]["step"] == 1
    elif not good:
        with pytest.raises((ValueError, TypeError)) as error:
            opt.step()
        assert one_line(error.value, name)
        assert not opt.state
