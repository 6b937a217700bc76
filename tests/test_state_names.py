"""State finds its parameter by name where both sides have names, else by position."""

import pytest
import torch
from torch import nn
from twins import layers, through_a_file, walked

from meansquare import RMSProp

Torch = torch.optim.RMSprop


def reordered(named):
    return list(named)[::-1]


WRAPPED = {
    "compiled": lambda names: [f"_orig_mod.{name}" for name in names],
    "data_parallel": lambda names: [f"module.{name}" for name in names],
    "both": lambda names: [f"module._orig_mod.{name}" for name in names],
    "inside": lambda names: [name.replace(".", "._fsdp_wrapped_module.", 1) for name in names],
}


@pytest.mark.parametrize("kind", [RMSProp, Torch])
def test_state_finds_its_parameter_by_name_in_another_order(kind):
    first, second = layers(), layers()
    opt = walked(first.named_parameters(), kind)
    again = RMSProp(reordered(second.named_parameters()))
    again.load_state_dict(through_a_file(opt.state_dict()))
    for p, q in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(opt.state[p]["square_avg"], again.state[q]["square_avg"])
    assert again.param_groups[0]["param_names"] == [
        n for n, _ in reordered(second.named_parameters())
    ]


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("side", ["saved", "ours"])
def test_names_match_whatever_wrappers_put_before_them(wrap, side):
    first, second = layers(), layers()
    names = [name for name, _ in first.named_parameters()]
    outside = list(zip(wrap(names), first.parameters(), strict=True))
    inside = reordered(second.named_parameters())
    opt, again = walked(outside), RMSProp(inside)
    if side == "ours":
        opt, again = walked(inside), RMSProp(outside)
    again.load_state_dict(opt.state_dict())
    one, other = (opt, again) if side == "saved" else (again, opt)
    for p, q in zip(first.parameters(), second.parameters(), strict=True):
        assert one.state[p]["step"] == other.state[q]["step"] == 3
        assert torch.equal(one.state[p]["square_avg"], other.state[q]["square_avg"])


def test_a_module_named_like_a_wrapper_keeps_its_own_name():
    p, q = (nn.Parameter(torch.zeros(2)) for _ in range(2))
    opt = walked([("module.weight", p), ("weight", q)])
    again = RMSProp(
        [
            ("weight", a := nn.Parameter(torch.zeros(2))),
            ("module.weight", nn.Parameter(torch.zeros(2))),
        ]
    )
    again.load_state_dict(opt.state_dict())
    assert torch.equal(again.state[a]["square_avg"], opt.state[q]["square_avg"])


def test_names_that_are_one_without_their_wrappers_are_refused():
    two = [
        ("module.weight", nn.Parameter(torch.zeros(2))),
        ("weight", nn.Parameter(torch.zeros(2))),
    ]
    saved = walked([(f"_orig_mod.{name}", p) for name, p in two]).state_dict()
    with pytest.raises(ValueError, match="two parameters named 'weight'; rename one"):
        RMSProp(two).load_state_dict(saved)


def test_state_is_matched_by_position_where_one_side_has_no_names():
    first, second = layers(), layers()
    opt, again = walked(first.named_parameters()), RMSProp(second.parameters())
    again.load_state_dict(opt.state_dict())
    for p, q in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(opt.state[p]["square_avg"], again.state[q]["square_avg"])
