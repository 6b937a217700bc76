"""State dicts tell their dialect, and those of other optimizers are read as what they are."""

import copy
import io

import pytest
import torch
from snapshot import contents
from stepped import parameters, stepped

from conformance.golden import CHECKPOINTS
from meansquare import RMSProp
from meansquare.dialects import DIALECTS


def saved(opt):
    file = io.BytesIO()
    torch.save(opt.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("name", DIALECTS)
def test_a_state_dict_tells_its_dialect_and_goes_on_in_any_optimizer(name):
    ours = RMSProp(parameters(), dialect=name, lr=0.5)
    held = saved(stepped(ours))
    params = [torch.nn.Parameter(p.detach().clone()) for p in ours.param_groups[0]["params"]]
    other = RMSProp(params)
    other.load_state_dict(held)
    assert other.param_groups[0]["dialect"] == name
    stepped(ours), stepped(other)
    for p, q in zip(ours.param_groups[0]["params"], params, strict=True):
        assert torch.equal(p, q)


def test_a_state_dict_of_ours_from_before_dialects_is_taken_as_it_is():
    held = stepped(RMSProp(parameters(), eps_place="inside")).state_dict()
    del held["param_groups"][0]["dialect"]
    other = RMSProp(parameters(), dialect="sb3")
    other.load_state_dict(held)
    assert (other.param_groups[0]["eps_place"], other.param_groups[0]["lr"]) == ("inside", 0.01)


def checkpoint(name):
    return torch.load(CHECKPOINTS / f"{name}.pt", weights_only=True)


@pytest.mark.parametrize("name", ["timm", "sb3", "torch"])
def test_a_state_dict_of_another_optimizer_loads_into_its_own_dialect(name):
    held = checkpoint(name)
    opt = RMSProp([torch.nn.Parameter(torch.ones(16, 16)) for _ in range(2)], dialect=name)
    opt.load_state_dict(held)
    (group,), (theirs,) = opt.param_groups, held["param_groups"]
    for setting in ("lr", "alpha", "eps", "momentum", "centered", "weight_decay"):
        assert group[setting] == theirs[setting]
    assert group["weight_decay_mode"] == ("decoupled" if name == "timm" else "l2")
    assert not {"decoupled_decay", "caution"} & group.keys()
    for p, key in zip(group["params"], theirs["params"], strict=True):
        assert torch.equal(opt.state[p]["square_avg"], held["state"][key]["square_avg"])
    stepped(opt)


@pytest.mark.parametrize(
    ("name", "dialect", "words"),
    [
        ("timm", "torch", "written by timm.optim.RMSpropTF and would be read as dialect 'torch'"),
        ("timm", "sb3", "load it into RMSProp(dialect='timm')"),
        ("torch", "keras", "written by torch.optim.RMSprop and would be read as dialect 'keras'"),
        ("torch", "steady", "or name a dialect in it)"),
        ("sb3", "keras", "would be read as dialect 'keras'"),
    ],
)
def test_a_state_dict_that_would_mean_something_else_is_refused(name, dialect, words):
    opt = RMSProp([torch.nn.Parameter(torch.ones(16, 16)) for _ in range(2)], dialect=dialect)
    stepped(opt)
    before = contents(opt)
    with pytest.raises(ValueError, match="RMSProp: ") as caught:
        opt.load_state_dict(checkpoint(name))
    assert words in str(caught.value)
    assert str(caught.value).endswith(" in group 0 of the state dict")
    assert contents(opt) == before


def test_it_is_read_as_the_dialect_that_is_named_in_it():
    held = checkpoint("torch")
    held["param_groups"][0]["dialect"] = "sb3"
    opt = RMSProp([torch.nn.Parameter(torch.ones(16, 16)) for _ in range(2)], dialect="sb3")
    opt.load_state_dict(held)
    assert opt.param_groups[0]["eps_place"] == "inside"


@pytest.mark.parametrize("name", ["timm", "sb3"])
def test_a_dict_that_names_its_dialect_is_that_dialect_in_any_optimizer(name):
    held = checkpoint(name)
    held["param_groups"][0]["dialect"] = name
    ours, own = (
        RMSProp([torch.nn.Parameter(torch.ones(16, 16)) for _ in range(2)], dialect=dialect)
        for dialect in ("torch", name)
    )
    for opt in (ours, own):
        opt.load_state_dict(held)
        stepped(opt)
    assert ours.rule(0) == own.rule(0)
    for p, q in zip(ours.param_groups[0]["params"], own.param_groups[0]["params"], strict=True):
        assert torch.equal(p, q)


def test_what_a_dialect_refuses_may_stand_in_its_state_dict():
    opt = RMSProp(parameters(), dialect="bitsandbytes")
    opt.param_groups[0] |= {"momentum": 0.9, "name": "head"}
    held = saved(stepped(opt))
    other = RMSProp(parameters(), dialect="bitsandbytes")
    other.load_state_dict(held)
    assert (other.param_groups[0]["momentum"], other.param_groups[0]["name"]) == (0.9, "head")


def test_a_group_without_a_dialect_is_torchs():
    opt = RMSProp(parameters())
    del opt.param_groups[0]["dialect"], opt.defaults["dialect"]
    stepped(opt)
    assert "dialect torch" in repr(opt)
    copy.deepcopy(opt).add_param_group({"params": parameters(1)})


def test_print_says_why_there_is_no_step():
    opt = RMSProp(parameters())
    opt.param_groups[0]["lr"] = -1.0
    last = repr(opt).splitlines()[-1]
    assert last.startswith("group 0, dialect torch: no step, since RMSProp: lr must be finite")
    opt.param_groups[0] |= {"lr": 0.1, "dialect": "kers"}
    assert "group 0, dialect kers: no step, since RMSProp: dialect must be" in str(opt)


def test_a_dialect_that_a_group_is_given_later_must_be_one():
    opt = RMSProp(parameters())
    opt.param_groups[0]["dialect"] = "none"
    with pytest.raises(ValueError, match=r"dialect must be one of .* got 'none'"):
        stepped(opt)
