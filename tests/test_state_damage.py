"""Whatever stands in a state dict, it loads and steps, or is refused in one line."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from junk import CHANGES, changed, places
from snapshot import contents, one_line
from torch import Tensor, nn
from twins import parameters, set_gradients, walk

from meansquare import RMSProp

REFUSALS = (ValueError, TypeError)


def stepped(seed: int = 0, **options: Any) -> RMSProp:
    """Two groups, one of them named, after two steps, with gradients for a third."""
    torch.manual_seed(seed)
    fresh = [nn.Parameter(torch.randn(3, 2)) for _ in range(4)]
    fresh[3].data = fresh[3].data.to(torch.complex64)
    groups = [{"params": fresh[:2], "momentum": 0.9, "centered": True}, {"params": fresh[2:]}]
    opt = RMSProp(groups, **options)
    walk((opt,), 2)
    set_gradients(2, parameters(opt))
    return opt


def named(opt: RMSProp) -> dict:
    """Its state dict, with names in the first group."""
    saved = copy.deepcopy(opt.state_dict())
    saved["param_groups"][0]["param_names"] = ["encoder.weight", "decoder.weight"]
    return saved


def assert_steps_or_refused(opt: RMSProp, saved: Any) -> bool:
    """That it loads and steps, or one line refuses it and nothing has changed; whether it loads."""
    before, message = (contents(opt), set(opt.state)), None
    try:
        opt.load_state_dict(saved)
    except REFUSALS as error:
        message = error
    if message is None:
        step_or_differentiable(opt)
        return bool(repr(opt) and copy.deepcopy(opt.state_dict()))
    assert one_line(message), str(message)
    assert len(str(message)) < 400
    assert (contents(opt), set(opt.state)) == before
    return False


def step_or_differentiable(opt: RMSProp) -> None:
    """Step; to follow a step on leaves is a setting that loads and that every step refuses."""
    if any(group["differentiable"] for group in opt.param_groups):
        with pytest.raises(RuntimeError, match="RMSProp: differentiable=True cannot write a leaf"):
            opt.step()
    else:
        opt.step()


SAVED = named(stepped())
PLACES = places(SAVED)


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.sampled_from(PLACES), st.sampled_from(sorted(CHANGES)))
def test_junk_in_any_place_loads_and_steps_or_is_refused_and_changes_nothing(place, name):
    assert_steps_or_refused(stepped(1), changed(SAVED, place, CHANGES[name]))


FIRST, GROUP = ("state", 0), ("param_groups", 0)
WHOLE: tuple = ()
REFUSED = [
    (WHOLE, "none", "a state dict must be a dict, got None"),
    (WHOLE, "shared_list", r"a state dict must be a dict, got \[\[\[\.\.\.\], "),
    (("state",), "set", "'state' of a state dict must be a dict, got {1}"),
    (("state",), "removed", r"a state dict must have 'state', got \['param_groups'\]"),
    (FIRST, "words", "the state of parameter 0 must be a dict, got 'several"),
    (FIRST, "renamed_long", "has state of a parameter a value of type int that is in no group"),
    (FIRST, "repeated", "has state of a parameter 4 that is in no group"),
    ((*FIRST, "step"), "deep_list", r"must be a count, got \[\[\[\.\.\.\]\]\]"),
    ((*FIRST, "step"), "long_integer", "must be a count, got a value of type int"),
    ((*FIRST, "step"), "past_every_count", "must be a count, got 18446744073709551616"),
    ((*FIRST, "step"), "infinite", "must be a count, got inf"),
    ((*FIRST, "step"), "nan", "must be a count, got nan"),
    ((*FIRST, "step"), "fraction", "must be a count, got 0.5"),
    ((*FIRST, "step"), "meta_scalar", r"must be a count, got Tensor of shape \(\)"),
    ((*FIRST, "step"), "renamed_nothing", "has unknown None"),
    ((*FIRST, "square_avg"), "negative_tensor", "must not be negative, got -1.0"),
    ((*FIRST, "square_avg"), "integers", "a dtype to go with torch.float32, got torch.int64"),
    ((*FIRST, "square_avg"), "quantized", "a dtype to go with torch.float32, got torch.quint8"),
    ((*FIRST, "square_avg"), "complex", "a dtype to go with torch.float32, got torch.complex64"),
    ((*FIRST, "square_avg"), "meta", r"must be a dense tensor, got Tensor of shape \(3, 2\)"),
    ((*FIRST, "square_avg"), "sparse", "must be a dense tensor, got torch.sparse_coo"),
    ((*FIRST, "square_avg"), "jagged", "must be a dense tensor, got torch.strided"),
    ((*FIRST, "square_avg"), "expanded_far", r"shape \(3, 2\), got \(1099511627776, 1048576\)"),
    (("param_groups",), "set", "'param_groups' of a state dict must be a list, got {1}"),
    (GROUP, "none", "group 0 of the state dict must be a dict, got None"),
    (
        GROUP,
        "odd_keys",
        r"group 0 of the state dict must have 'params', got \[None, \(1, 2\), 3.5\]",
    ),
    ((*GROUP, "lr"), "renamed_pair", r"has \(0, 'step'\) for a name or a number"),
    ((*GROUP, "lr"), "not_a_number", r"lr must be a number, got Tensor of shape \(3, 2\)"),
    ((*GROUP, "lr"), "deep_list", "group 0 of the state dict cannot be copied"),
    ((*GROUP, "lr"), "of_autograd", "group 0 of the state dict cannot be copied"),
    ((*GROUP, "eps_place"), "lists_of_tensors", r"got \[Tensor of shape \(40, 40\), Tensor"),
    ((*GROUP, "seed"), "long_integer", "seed must be an integer in .*, got a value of type int"),
    ((*GROUP, "centered"), "meta_scalar", r"must be True or False, got Tensor of shape \(\)"),
    ((*GROUP, "params"), "none", "'params' of group 0 of the state dict must be a list, got None"),
    ((*GROUP, "params", 0), "empty_list", r"has \[\] for a name or a number"),
    ((*GROUP, "params", 0), "true", "has True for a name or a number"),
    ((*GROUP, "params", 0), "removed", "has 2 names for 1 parameters"),
    ((*GROUP, "param_names"), "infinite", "'param_names' of group 0 .* must be a list, got inf"),
    ((*GROUP, "param_names", 0), "bytes", "has b'.*' for a name or a number"),
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("place", "change", "message"), REFUSED)
def test_damage_is_refused_in_words(place, change, message):
    opt = stepped(1)
    with pytest.raises(REFUSALS, match=message):
        opt.load_state_dict(changed(SAVED, place, CHANGES[change]))
    assert_steps_or_refused(opt, changed(SAVED, place, CHANGES[change]))


def test_a_parameter_that_is_listed_twice_is_refused():
    saved = copy.deepcopy(SAVED)
    saved["param_groups"][1]["params"] = [2, 1]
    del saved["state"][3]
    with pytest.raises(ValueError, match="the state dict lists parameter 1 2 times"):
        stepped(1).load_state_dict(saved)


LOADED = [
    ((*FIRST, "square_avg"), "not_a_number"),
    ((*FIRST, "square_avg"), "half"),
    ((*FIRST, "square_avg"), "expanded"),
    ((*FIRST, "square_avg"), "parameter"),
    ((*FIRST, "square_avg"), "subclass"),
    ((*FIRST, "square_avg"), "of_autograd"),
    (("state", 3, "square_avg"), "conjugate"),
    ((*FIRST, "step"), "scalar"),
    ((*GROUP, "lr"), "removed"),
]


@pytest.mark.parametrize(("place", "change"), LOADED)
def test_what_is_only_unusual_loads_as_plain_tensors_without_history(place, change):
    opt = stepped(1)
    assert assert_steps_or_refused(opt, changed(SAVED, place, CHANGES[change]))
    held = [value for state in opt.state.values() for value in state.values()]
    assert {type(value) for value in held} == {Tensor}
    assert not any(value.requires_grad for value in held)


@pytest.mark.parametrize(
    ("dtype", "own"),
    [
        (torch.float32, torch.float32),
        (torch.float32, torch.bfloat16),
        (torch.float64, torch.float32),
        (torch.complex64, torch.complex64),
    ],
    ids=str,
)
@pytest.mark.parametrize("at", [0, 1])
def test_a_negative_second_moment_is_refused_by_name(dtype, own, at):
    opt = RMSProp([("weight", nn.Parameter(torch.ones(3, dtype=own)))])
    walk((opt,), 1)
    saved = copy.deepcopy(opt.state_dict())
    average = saved["state"][0]["square_avg"].to(dtype)
    reals = torch.view_as_real(average) if dtype.is_complex else average
    reals.flatten()[at] = -1e-30
    saved["state"][0]["square_avg"] = average
    before = contents(opt)
    with pytest.raises(
        ValueError, match=r"'square_avg' of parameter 'weight' .* got -1\.0"
    ) as error:
        opt.load_state_dict(saved)
    assert one_line(error.value, "the checkpoint is damaged")
    assert contents(opt) == before
