"""State dicts go from torch to us and back, without loss, or not at all."""

import copy
import itertools
from typing import Any

import pytest
import torch
from snapshot import contents, one_line, tensors
from torch import nn
from twins import (
    apart,
    copies,
    layers,
    layouts,
    parameters,
    set_gradients,
    through_a_file,
    walk,
    walked,
)

from meansquare import RMSProp

Torch = torch.optim.RMSprop
OPTIONS = [
    {"momentum": momentum, "centered": centered, "weight_decay": 0.01}
    for momentum, centered in itertools.product((0, 0.9), (False, True))
]
OURS = {
    "eps_place": "inside",
    "nesterov": True,
    "momentum": 0.5,
    "seed": 7,
    "bias_correction": True,
}
BUFFERS = ("square_avg", "grad_avg", "momentum_buffer")
ROUNDING = 1e-4  # relative, of 100 steps in float32, for the centered variance


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_torch_checkpoint_loads_and_goes_on_as_torch_would(options):
    other = Torch(layouts(), lr=1e-3, **options)
    walk((other,), 50)
    ours = RMSProp(copies(parameters(other)))
    ours.load_state_dict(through_a_file(other.state_dict()))
    walk((ours, other), 50, first=50)
    assert apart((ours, other)) <= ROUNDING


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_our_checkpoint_loads_into_torch_and_goes_on(options):
    ours = RMSProp(layouts(), lr=1e-3, **options)
    walk((ours,), 50)
    other = Torch(copies(parameters(ours)))
    other.load_state_dict(through_a_file(ours.state_dict()))
    walk((ours, other), 50, first=50)
    assert apart((ours, other)) <= ROUNDING


@pytest.mark.parametrize("options", [*OPTIONS, OURS], ids=str)
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.complex64], ids=str
)
def test_our_own_checkpoint_goes_on_to_the_bit(options, dtype):
    opt = RMSProp(cast(dtype), **options)
    walk((opt,), 5)
    again = RMSProp(copies(parameters(opt)), lr=0.5)
    again.load_state_dict(through_a_file(opt.state_dict()))
    walk((opt, again), 5, first=5)
    assert all(map(torch.equal, tensors(opt), tensors(again)))


def cast(dtype):
    return (
        layouts(dtype)
        if dtype.is_complex
        else [nn.Parameter(p.detach().to(dtype)) for p in layouts()]
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_state_of_half_precision_is_float32_and_stays_so_through_a_file(dtype):
    opt = RMSProp(cast(dtype), momentum=0.9, centered=True)
    walk((opt,), 2)
    again = RMSProp(cast(dtype))
    again.load_state_dict(through_a_file(opt.state_dict()))
    for own, name in itertools.product((opt, again), BUFFERS):
        assert {own.state[p][name].dtype for p in parameters(own)} == {torch.float32}
    assert all(map(torch.equal, tensors(opt)[1:4], tensors(again)[1:4]))


def test_a_float32_checkpoint_goes_on_in_bfloat16_and_back_without_loss_of_state():
    full = RMSProp(layouts(), momentum=0.9)
    walk((full,), 3)
    half = RMSProp(cast(torch.bfloat16))
    half.load_state_dict(full.state_dict())
    back = RMSProp(layouts())
    back.load_state_dict(half.state_dict())
    for p, q in zip(parameters(full), parameters(back), strict=True):
        assert all(map(torch.equal, full.state[p].values(), back.state[q].values()))


def test_loaded_state_shares_no_memory_with_what_it_was_loaded_from():
    opt, again = RMSProp(layouts(), momentum=0.9), RMSProp(layouts())
    walk((opt,), 2)
    saved = opt.state_dict()
    again.load_state_dict(saved)
    before = contents(opt)
    walk((again,), 2)
    assert contents(opt) == before
    assert again.param_groups[0] is not saved["param_groups"][0]


def edited(**changes):
    """A change of the state of parameter 2 (`1.weight`, or `2.weight` without a name)."""

    def edit(saved):
        for name, value in changes.items():
            saved["state"][2][name] = value(saved["state"][2].get(name))

    return edit


def dropped(saved):
    del saved["state"][2]["square_avg"]


def renamed(saved):
    saved["param_groups"][0]["param_names"][2] = "1.kernel"


def shortened(saved):
    for name in ("params", "param_names"):
        saved["param_groups"][0][name].pop(3)
    del saved["state"][3]


def more_groups(saved):
    saved["param_groups"].append({"params": []})


def wrong_setting(saved):
    saved["param_groups"][0]["alpha"] = 1.5


REFUSED = {
    "shape": (
        edited(square_avg=lambda v: v[:2]),
        "state 'square_avg' of parameter '1.weight'.*\\(4, 4\\), got \\(2, 4\\)",
    ),
    "buffer_shape": (
        edited(momentum_buffer=lambda v: v.flatten()),
        "'momentum_buffer' of parameter '1.weight'",
    ),
    "complex": (
        edited(square_avg=lambda v: v + 0j),
        "'square_avg' of parameter '1.weight'.*complex64",
    ),
    "no_tensor": (
        edited(square_avg=lambda v: 1.0),
        "'square_avg' of parameter '1.weight'.*got 1.0",
    ),
    "step": (
        edited(step=lambda v: torch.ones(2)),
        "'step' of parameter '1.weight' must be a count",
    ),
    "negative_step": (
        edited(step=lambda v: -1),
        "'step' of parameter '1.weight' must be a count, got -1",
    ),
    "another_optimizer": (
        edited(exp_avg=lambda v: torch.ones(4, 4)),
        "parameter '1.weight' has unknown 'exp_avg'",
    ),
    "no_average": (dropped, "parameter '1.weight' has no 'square_avg'"),
    "name": (renamed, "no parameter '1.weight'; it has '1.kernel'"),
    "size": (shortened, "group 0 of the state dict has 4 parameters, the optimizer's has 5"),
    "groups": (more_groups, "the state dict has 2 parameter groups, the optimizer 1"),
    "setting": (wrong_setting, "alpha must be in \\[0, 1\\), got 1.5 in group 0 of the state dict"),
    "nothing": (dict.clear, "a state dict must have 'state', got \\[\\]"),
    "no_groups": (
        lambda saved: saved.pop("param_groups"),
        "must have 'param_groups', got \\['state'\\]",
    ),
}


@pytest.mark.parametrize(("edit", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_by_name_and_changes_nothing(edit, message):
    saved = copy.deepcopy(walked(layers().named_parameters(), nesterov=True).state_dict())
    edit(saved)
    opt = walked(layers(1).named_parameters(), lr=0.5)
    before = contents(opt)
    with pytest.raises((ValueError, TypeError), match=message) as error:
        opt.load_state_dict(saved)
    assert one_line(error.value)
    assert contents(opt) == before


FOREIGN = [torch.optim.Adam, torch.optim.SGD, torch.optim.Adagrad, torch.optim.Adadelta]


@pytest.mark.parametrize("kind", FOREIGN, ids=lambda kind: kind.__name__)
def test_the_state_of_another_optimizer_is_refused(kind):
    other = kind(layouts(), **({"momentum": 0.9} if kind is torch.optim.SGD else {}))
    walk((other,), 1)
    with pytest.raises(ValueError, match="the state of parameter 0 of group 0 has"):
        RMSProp(layouts()).load_state_dict(other.state_dict())


def test_a_mismatch_without_names_is_refused_by_place():
    opt = RMSProp(layers().parameters())
    walk((opt,), 1)
    narrow = RMSProp([nn.Parameter(p[:1].detach().clone()) for p in layers().parameters()])
    with pytest.raises(ValueError, match="'square_avg' of parameter 0 of group 0"):
        narrow.load_state_dict(opt.state_dict())


def test_settings_that_torch_does_not_know_survive_its_state_dict():
    opt = RMSProp([{"params": layouts(), **OURS}])
    theirs = Torch(layouts(), lr=0.25, momentum=0.5)
    walk((theirs,), 1)
    opt.load_state_dict(theirs.state_dict())
    group = opt.param_groups[0]
    assert group["lr"] == 0.25
    assert {name: group[name] for name in OURS} == OURS


def test_steps_count_on_where_float32_stands_still():
    opt = RMSProp(layouts())
    walk((opt,), 1)
    saved = opt.state_dict()
    for state in saved["state"].values():
        state["step"] = torch.tensor(2.0**24, dtype=torch.float32)
    opt.load_state_dict(saved)
    walk((opt,), 2)
    assert {float(state["step"]) for state in opt.state.values()} == {2.0**24 + 2}


@pytest.mark.parametrize("count", [3, 3.0, torch.tensor(3), torch.tensor([3.0])], ids=repr)
def test_step_counts_of_any_kind_are_taken(count):
    opt = RMSProp(layouts())
    walk((opt,), 1)
    saved = opt.state_dict()
    for state in saved["state"].values():
        state["step"] = count
    opt.load_state_dict(saved)
    walk((opt,), 1)
    assert {float(state["step"]) for state in opt.state.values()} == {4.0}


def test_a_checkpoint_of_parameters_without_a_gradient_has_no_state_for_them():
    opt, again = RMSProp(layouts()), RMSProp(layouts())
    set_gradients(0, parameters(opt))
    parameters(opt)[1].grad = None
    opt.step()
    again.load_state_dict(through_a_file(opt.state_dict()))
    assert parameters(again)[1] not in again.state
    walk((again,), 1)


def test_what_a_user_keeps_in_the_state_beside_the_parameters_is_kept():
    key: Any = "epoch"
    opt, again = RMSProp(layouts()), RMSProp(layouts())
    opt.state[key] = 3
    walk((opt,), 1)
    again.load_state_dict(opt.state_dict())
    assert again.state[key] == 3
