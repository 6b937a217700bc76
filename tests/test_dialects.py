"""A dialect is its framework: by what the framework computed, and by its names."""

import numpy as np
import pytest
import torch
from stepped import parameters

from conformance import golden
from conformance.framework import Run, divides_by_nothing
from conformance.ours import path
from conformance.problem import VARIED
from meansquare import RMSProp
from meansquare.dialects import DIALECTS
from meansquare.family import RMSPropHyper

KEPT = [*golden.read()]
(OPTAX,) = (framework for framework in golden.FRAMEWORKS if framework.dialect == "optax")


@pytest.mark.parametrize(
    ("framework", "dtype", "case"),
    [(one, dtype, case) for one, _, dtype, case in KEPT],
    ids=[f"{one.name}-{i}" for i, (one, *_) in enumerate(KEPT)],
)
def test_a_dialect_gives_what_its_framework_gave(framework, dtype, case):
    ours = path(framework.dialect, case["arguments"], Run(VARIED, dtype))
    for t, theirs in case["after"].items():
        gap = np.abs(ours[int(t) - 1] - theirs) / np.maximum(1, np.abs(theirs))
        assert gap.max() <= framework.tolerance(case["arguments"], dtype), f"step {t}"


def test_golden_files_hold_every_call_that_can_be_compared():
    names = [one.name for one, *_ in KEPT]
    for framework in golden.FRAMEWORKS:
        compared = [c for c in framework.cases if not divides_by_nothing(framework.dialect, c)]
        assert names.count(framework.name) == len(compared)


def test_what_is_called_run_is_what_was_run():
    run = {framework.dialect for framework in golden.FRAMEWORKS}
    assert run == {name for name, row in DIALECTS.items() if row.verified == "run"}


def test_versions_of_rows_are_those_of_the_golden_files():
    for framework, version, *_ in KEPT:
        assert version in DIALECTS[framework.dialect].source


@pytest.mark.parametrize("case", [c for c in OPTAX.cases if divides_by_nothing("optax", c)])
def test_where_optax_divides_by_nothing_ours_is_finite(case):
    assert np.isfinite(path("optax", case, Run(VARIED, "float32"))).all()


@pytest.mark.parametrize("name", DIALECTS)
def test_a_row_is_made_of_settings_and_buffers_that_there_are(name):
    row = DIALECTS[name]
    assert set(row.settings) <= set(RMSPropHyper.names())
    ours = {text for text in row.arguments.values() if isinstance(text, str)}
    assert ours <= {*RMSPropHyper.names(), "foreach", "capturable", "differentiable"}
    buffers = {text.lstrip("-").split("/")[0] for text in row.state.values()}
    assert buffers <= set(RMSPropHyper.STATE)


@pytest.mark.parametrize("name", DIALECTS)
def test_what_is_not_given_is_as_the_dialect_has_it(name):
    row = DIALECTS[name]
    rate = {} if "lr" in row.settings else {"lr": 0.5}
    (group,) = RMSProp(parameters(), dialect=name, **rate).param_groups
    assert group["dialect"] == name
    for setting, value in (dict(row.settings) | rate).items():
        assert group[setting] == value


SPELLED = [  # dialect, in its words, in ours
    ("keras", {"learning_rate": 0.5, "rho": 0.7}, {"lr": 0.5, "alpha": 0.7}),
    ("keras", {"epsilon": 0.1, "clipvalue": 2.0}, {"eps": 0.1, "clip_value": 2.0}),
    ("keras", {"global_clipnorm": 2.0}, {"max_grad_norm": 2.0, "grad_norm_eps": 0.0}),
    ("keras", {"weight_decay": None, "clipnorm": None, "use_ema": False}, {"weight_decay": 0.0}),
    ("tf1", {"learning_rate": 0.5, "decay": 0.7}, {"lr": 0.5, "alpha": 0.7}),
    ("tf_keras_legacy", {"rho": 0.7, "decay": 0.0}, {"alpha": 0.7}),
    ("optax", {"learning_rate": 1, "momentum": None}, {"momentum": 0.0, "lr": 1}),
    ("optax", {"learning_rate": 1, "eps_in_sqrt": False}, {"eps_place": "outside"}),
    ("optax", {"learning_rate": 1, "initial_scale": 1.0}, {"initial_square_avg": 1.0}),
    ("jax", {"step_size": 0.5, "gamma": 0.7}, {"lr": 0.5, "alpha": 0.7}),
    ("timm", {"decoupled_decay": True}, {"weight_decay_mode": "decoupled"}),
    (
        "timm",
        {"decoupled_decay": True, "corrected_weight_decay": True},
        {"weight_decay_mode": "corrected"},
    ),
    ("timm", {"corrected_weight_decay": True}, {"weight_decay_mode": "l2"}),
    ("timm", {"caution": True, "momentum": 0.9}, {"cautious": True}),
    ("dqn", {"wc": 0.1}, {"weight_decay": 0.1, "centered": True}),
    ("dqn", {"centered": False}, {"centered": False}),
    ("chainer", {"eps_inside_sqrt": True}, {"eps_place": "inside"}),
    ("mxnet", {"gamma1": 0.7}, {"alpha": 0.7, "momentum": 0}),
    ("mxnet", {"centered": True}, {"centered": True, "momentum": 0.9}),
    ("mxnet", {"centered": True, "gamma2": 0.5}, {"momentum": 0.5}),
    ("mxnet", {"centered": True, "momentum": 0.5}, {"momentum": 0.5}),
    ("keras", {"ema_overwrite_frequency": 100, "use_ema": np.bool_(False)}, {}),
    ("bitsandbytes", {"momentum": torch.tensor(0.0)}, {}),
    ("mxnet", {"clip_gradient": 0.0, "wd": 0.1}, {"clip_value": None}),
    ("torch7", {"learningRate": 0.5, "initialMean": 1.0}, {"lr": 0.5, "initial_square_avg": 1.0}),
    ("flux", {"eta": 0.5, "centred": True}, {"lr": 0.5, "centered": True}),
    ("heavyball", {"betas": (0.1, 0.7)}, {"alpha": 0.7}),
    ("bitsandbytes", {"momentum": 0, "centered": False, "optim_bits": 32}, {"momentum": 0}),
    ("keras", {"alpha": 0.99, "eps_place": "outside"}, {"alpha": 0.99, "eps_place": "outside"}),
]


@pytest.mark.parametrize(("name", "theirs", "ours"), SPELLED)
def test_arguments_are_taken_as_the_framework_spells_them(name, theirs, ours):
    (group,) = RMSProp(parameters(), dialect=name, **theirs).param_groups
    assert {setting: group[setting] for setting in ours} == ours


SWITCHES = {  # a value that no dialect has by itself
    "lr": 0.123,
    "alpha": 0.123,
    "eps": 0.123,
    "eps_place": "max",
    "momentum": 0.123,
    "nesterov": True,
    "lr_in_momentum": None,  # the other one
    "centered": None,
    "bias_correction": None,
    "initial_square_avg": 0.123,
    "weight_decay": 0.123,
    "weight_decay_mode": "corrected",
    "clip_value": 0.123,
    "max_grad_norm": 0.123,
    "max_update_rms": 0.123,
    "cautious": True,
    "maximize": True,
}


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("name", [name for name in DIALECTS if name != "bitsandbytes"])
def test_any_switch_can_be_set_for_itself(name, switch):
    settings = DIALECTS[name].settings | {"lr": 0.5}
    value = SWITCHES[switch]
    value = not settings.get(switch, False) if value is None else value
    alone = {"max_update_rms": None} if switch == "cautious" else {}
    rate = {} if switch == "lr" else {"lr": 0.5}
    (group,) = RMSProp(parameters(), dialect=name, **{switch: value}, **alone, **rate).param_groups
    assert group[switch] == value
    others = {key: value for key, value in settings.items() if key not in (switch, *alone)}
    own = {"momentum"} if (name, switch) == ("mxnet", "centered") else set()
    assert all(group[key] == value for key, value in others.items() if key not in own)


REFUSED = [  # dialect, arguments, error, words of it
    (
        "keras",
        {"clipnorm": 1.0},
        ValueError,
        "clipnorm of dialect 'keras' is not offered here; call",
    ),
    ("keras", {"use_ema": True}, ValueError, "use_ema of dialect 'keras' is not offered here; use"),
    ("keras", {"gradient_accumulation_steps": 2}, ValueError, "not offered here; call backward"),
    ("tf_keras_legacy", {"decay": 0.1}, ValueError, "LambdaLR"),
    ("bitsandbytes", {"momentum": 0.9}, ValueError, "does not read it"),
    ("bitsandbytes", {"centered": True}, ValueError, "centered of dialect 'bitsandbytes'"),
    ("heavyball", {"warmup_steps": 5}, ValueError, "LinearLR"),
    ("mxnet", {"gamma2": 0.5}, ValueError, "gamma2 only where centered"),
    ("mxnet", {"wd": 0.1, "clip_gradient": 1.0}, ValueError, "clips what its weight decay adds"),
    ("mxnet", {"rescale_grad": 0.5}, ValueError, "multiply the loss by it"),
    ("paddle", {"learning_rate": 1, "grad_clip": object()}, ValueError, "give clip_value or max_"),
    ("keras", {"rhoo": 0.9}, TypeError, "'keras' has no argument 'rhoo' (did you mean 'rho'?)"),
    ("torch", {"rho": 0.9}, TypeError, "dialect 'torch' has no argument 'rho'"),
    ("optax", {}, TypeError, "no learning rate of its own; give learning_rate"),
    ("hinton", {}, TypeError, "no learning rate of its own; give lr"),
    (
        "keras",
        {"lr": 0.1, "learning_rate": 0.1},
        TypeError,
        "lr is given twice, once as learning_r",
    ),
    (
        "optax",
        {"learning_rate": 1, "eps_in_sqrt": "no"},
        TypeError,
        "eps_in_sqrt must be True or F",
    ),
    (
        "optax",
        {"learning_rate": 1, "eps_in_sqrt": False, "eps_place": "inside"},
        TypeError,
        "twice",
    ),
    (
        "keras",
        {"global_clipnorm": 1.0, "max_grad_norm": 5.0},
        TypeError,
        "max_grad_norm is given t",
    ),
    ("keras", {"global_clipnorm": 1.0, "clipvalue": 5.0}, ValueError, "are not offered together"),
    (
        "timm",
        {"decoupled_decay": True, "weight_decay_mode": "l2"},
        TypeError,
        "weight_decay_mode is",
    ),
    ("heavyball", {"betas": (0.9, 0.5), "alpha": 0.9}, TypeError, "alpha is given twice"),
    (
        "keras",
        {"name": "RMSprop"},
        ValueError,
        "name of dialect 'keras' is not offered here; leave",
    ),
    ("heavyball", {"r": 0.5}, ValueError, "r of dialect 'heavyball' is not offered"),
    ("mxnet", {"gamma2": torch.ones(3)}, TypeError, "gamma2 must be a number"),
    ("heavyball", {"betas": 0.9}, TypeError, "betas must be two numbers"),
    ("keras", {"rho": 1.5}, ValueError, "alpha must be in [0, 1), got 1.5"),
    ("kears", {}, ValueError, "got 'kears' (did you mean 'keras'?)"),
    (7, {}, ValueError, "got 7"),
    (
        "timm",
        {"caution": True, "momentum": 0.9, "max_update_rms": 1.0},
        ValueError,
        "both scale a s",
    ),
]


@pytest.mark.parametrize(("name", "theirs", "error", "words"), REFUSED)
def test_what_a_dialect_cannot_do_is_refused_in_one_line(name, theirs, error, words):
    with pytest.raises(error) as caught:
        RMSProp(parameters(), dialect=name, **theirs)
    assert str(caught.value).startswith("RMSProp: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_positional_arguments_are_torchs_in_every_dialect():
    (group,) = RMSProp(parameters(), 0.5, 0.7, dialect="keras").param_groups
    assert (group["lr"], group["alpha"], group["eps"]) == (0.5, 0.7, 1e-7)


def test_a_subclass_need_not_know_of_dialects():
    class Own(RMSProp):
        def __init__(self, params):
            super().__init__(params, dialect="keras", rho=0.7)

    assert Own(parameters()).param_groups[0]["alpha"] == 0.7


def test_the_place_of_eps_follows_momentum_in_old_keras():
    opt = RMSProp(parameters(), dialect="tf_keras_legacy", momentum=0.5)
    assert "sqrt(v + eps)" in opt.rule(0)
    opt.param_groups[0]["momentum"] = 0.0
    assert "(sqrt(v) + eps)" in opt.rule(0)


def test_print_shows_the_step_of_each_group_in_a_line():
    opt = RMSProp(parameters(), dialect="keras", momentum=0.5)
    last = repr(opt).splitlines()[-1]
    rule = "v = alpha*v + (1-alpha)*g*g;  b = mu*b + lr*g/sqrt(v + eps);  p = p - b"
    assert last == f"group 0, dialect keras: {rule}"
