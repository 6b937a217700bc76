"""Groups may have a dialect of their own, and words of the optimizer's."""

import pytest
import torch
from stepped import parameters, stepped

from meansquare import RMSProp


def test_a_group_may_have_a_dialect_of_its_own():
    one, two, three = parameters(3)
    groups = [
        {"params": [one], "dialect": "keras", "rho": 0.7},
        {"params": [two], "learning_rate": 0.5, "name": "head"},
        {"params": [three], "dialect": "optax"},
    ]
    opt = RMSProp(groups, dialect="tf1", learning_rate=0.25)
    assert [group["dialect"] for group in opt.param_groups] == ["keras", "tf1", "optax"]
    assert [group["lr"] for group in opt.param_groups] == [1e-3, 0.5, 0.25]
    assert [group["initial_square_avg"] for group in opt.param_groups] == [0.0, 1.0, 0.0]
    assert opt.param_groups[1]["name"] == "head"
    stepped(opt)
    for p, name, options in ((one, "keras", {"rho": 0.7}), (two, "tf1", {"lr": 0.5})):
        alone = stepped(RMSProp([torch.nn.Parameter(start(p, opt))], dialect=name, **options))
        assert torch.equal(alone.param_groups[0]["params"][0], p)


def test_a_group_of_a_dialect_without_a_rate_takes_the_one_that_was_given():
    group = {"params": parameters(1), "dialect": "tf1"}
    assert RMSProp([group], dialect="keras", learning_rate=0.5).param_groups[0]["lr"] == 0.5
    with pytest.raises(TypeError, match=r"'tf1' has no learning rate of its own.* in group 0"):
        RMSProp([group])


def test_a_group_takes_from_its_own_dialect_what_makes_one_and_no_more():
    given = {"maximize": True, "max_grad_norm": 1.0, "seed": 7, "weight_decay": 0.1, "eps": 0.5}
    opt = RMSProp([{"params": parameters(1), "dialect": "keras"}], dialect="sb3", **given)
    (group,) = opt.param_groups
    kept = {name: group[name] for name in given if name != "eps"}
    assert kept == {name: given[name] for name in kept}
    assert (group["eps"], group["initial_square_avg"]) == (1e-7, 0.0)


def test_arguments_of_a_group_mean_what_they_mean_beside_the_constructors():
    corrected = {"corrected_weight_decay": True}
    opt = RMSProp([{"params": parameters(1)} | corrected], dialect="timm", decoupled_decay=True)
    assert opt.param_groups[0]["weight_decay_mode"] == "corrected"
    opt = RMSProp([{"params": parameters(1), "gamma2": 0.5}], dialect="mxnet", centered=True)
    assert opt.param_groups[0]["momentum"] == 0.5
    with pytest.raises(ValueError, match="clips what its weight decay adds"):
        RMSProp([{"params": parameters(1), "wd": 0.5}], dialect="mxnet", clip_gradient=1.0)


@pytest.mark.parametrize("name", ["rhoo", "gamma", "learnin_rate"])
def test_a_mistaken_name_in_a_group_of_a_dialect_is_refused(name):
    with pytest.raises(TypeError, match=f"has no argument '{name}'.* in group 0"):
        RMSProp([{"params": parameters(1), name: 0.5}], dialect="keras")


def test_what_users_keep_in_groups_stays():
    own = {"name": "head", "initial_lr": 0.1, "layer": 3, 5: 6}
    for dialect in ("torch", "keras"):
        (group,) = RMSProp([{"params": parameters(1)} | own], dialect=dialect).param_groups
        assert {key: group[key] for key in own} == own


def start(p, opt):
    """What a parameter of `parameters()` began as."""
    everyone = [q for group in opt.param_groups for q in group["params"]]
    return torch.full((3,), 1.0 + next(i for i, q in enumerate(everyone) if q is p))


def test_a_bad_group_adds_nothing():
    opt = RMSProp(parameters(1), dialect="keras")
    for bad, words in (
        ({"clipnorm": 1.0}, "clipnorm"),
        ({"dialect": "x"}, "dialect must be one of"),
    ):
        with pytest.raises(ValueError, match=f"{words}.* in group 1"):
            opt.add_param_group({"params": parameters(1)} | bad)
        assert len(opt.param_groups) == 1


def test_a_corrected_decay_is_relative_to_the_rate_of_the_constructor():
    opt = RMSProp([{"params": parameters(1), "lr": 0.25}], dialect="timm", lr=0.5)
    assert opt.param_groups[0]["reference_lr"] == 0.5
    opt = RMSProp([{"params": parameters(1), "lr": 0.25, "dialect": "timm"}], lr=1e-3)
    assert opt.param_groups[0]["reference_lr"] == 0.25
