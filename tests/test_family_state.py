"""State dicts of every namesake go from torch to us and back, without loss, or not at all."""

import copy
import itertools
import pickle

import pytest
import torch
from members import NAMESAKES
from snapshot import contents, one_line, tensors
from torch import nn
from twins import (
    apart,
    copies,
    layers,
    layouts,
    pair,
    parameters,
    set_gradients,
    through_a_file,
    walk,
)

from meansquare import SGD, AdaGrad, Adam, AdamW, RMSProp, Rprop, SignSGD

ROUNDING = 2e-6  # relative, of some steps in float32
CASES = [
    (SGD, {"weight_decay": 0.1}),
    (SGD, {"momentum": 0.9, "dampening": 0.5}),
    (SGD, {"momentum": 0.9, "nesterov": True}),
    (AdaGrad, {"lr_decay": 0.1, "initial_accumulator_value": 0.3}),
    (Adam, {"betas": (0.5, 0.9)}),
    (Adam, {"amsgrad": True, "decoupled_weight_decay": True, "weight_decay": 0.1}),
    (AdamW, {"amsgrad": True, "maximize": True}),
    (Rprop, {"etas": (0.4, 1.3)}),
]
OWN = [*CASES, (SignSGD, {"weight_decay": 0.1})]
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.complex64]
each_case = pytest.mark.parametrize(("kind", "options"), CASES)


def cast(dtype):
    """A parameter of every layout in this dtype."""
    if dtype in (torch.bfloat16, torch.float16):
        return [nn.Parameter(p.detach().to(dtype)) for p in layouts()]
    return layouts(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64], ids=str)
@pytest.mark.parametrize("steps", [0, 1, 20])
@each_case
def test_a_torch_checkpoint_loads_and_goes_on_as_torch_would(kind, options, steps, dtype):
    other = NAMESAKES[kind](layouts(dtype), **options)
    walk((other,), steps)
    ours = kind(copies(parameters(other)))
    ours.load_state_dict(through_a_file(other.state_dict()))
    walk((ours, other), 20, first=steps)
    assert apart((ours, other)) <= ROUNDING


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64], ids=str)
@pytest.mark.parametrize("steps", [0, 1, 20])
@each_case
def test_our_checkpoint_loads_into_torch_and_goes_on(kind, options, steps, dtype):
    ours = kind(layouts(dtype), **options)
    walk((ours,), steps)
    other = NAMESAKES[kind](copies(parameters(ours)))
    other.load_state_dict(through_a_file(ours.state_dict()))
    if kind is AdaGrad and steps == 0:  # torch made its state in the constructor, and lost it now
        other.defaults["initial_accumulator_value"] = options["initial_accumulator_value"]
    walk((ours, other), 20, first=steps)
    assert apart((ours, other)) <= ROUNDING


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("kind", "options"), OWN)
def test_our_own_checkpoint_goes_on_to_the_bit(kind, options, dtype):
    opt = kind(cast(dtype), **options)
    walk((opt,), 5)
    again = kind(copies(parameters(opt)), lr=0.5)
    again.load_state_dict(through_a_file(opt.state_dict()))
    walk((opt, again), 5, first=5)
    assert all(map(torch.equal, tensors(opt), tensors(again)))


@each_case
def test_state_has_the_names_that_it_has_in_torch(kind, options):
    opts = pair(layouts(), kinds=(kind, NAMESAKES[kind]), **options)
    walk(opts, 2)
    ours, theirs = ({name for s in opt.state.values() for name in s} for opt in opts)
    assert ours == theirs | {"step"}
    assert ours <= {"step", *kind._kind.STATE}


@each_case
def test_groups_hold_the_settings_that_they_hold_in_torch(kind, options):
    ours, theirs = (
        opt.state_dict()["param_groups"][0]
        for opt in pair(layouts(), kinds=(kind, NAMESAKES[kind]), **options)
    )
    assert {name: ours[name] for name in theirs} == theirs


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@each_case
def test_state_of_half_precision_is_float32_and_stays_so_through_a_file(kind, options, dtype):
    opt, again = (kind(cast(dtype), **options) for _ in range(2))
    walk((opt,), 2)
    again.load_state_dict(through_a_file(opt.state_dict()))
    for own in (opt, again):
        held = [s for s in own.state.values() for name, s in s.items() if name != "step"]
        assert {value.dtype for value in held} <= {torch.float32}
    for p, q in zip(*map(parameters, (opt, again)), strict=True):
        assert all(map(torch.equal, opt.state[p].values(), again.state[q].values()))


@pytest.mark.parametrize("dampening", [0.5, 0.9])
def test_a_buffer_of_sgd_without_a_count_is_not_begun_again(dampening):
    other = torch.optim.SGD(layouts(), lr=0.1, momentum=0.9, dampening=dampening)
    walk((other,), 1)
    saved = other.state_dict()
    assert {tuple(state) for state in saved["state"].values()} == {("momentum_buffer",)}
    ours = SGD(copies(parameters(other)))
    ours.load_state_dict(saved)
    walk((ours, other), 1, first=1)
    assert apart((ours, other)) <= ROUNDING


def test_a_buffer_of_sgd_that_old_versions_of_torch_saved_as_none_begins_anew():
    starts = layouts()
    ours, plain = SGD(starts), SGD(copies(starts), momentum=0.9, dampening=0.5)
    saved = plain.state_dict()
    saved["state"] = {i: {"momentum_buffer": None} for i in range(len(starts))}
    ours.load_state_dict(saved)
    walk((ours, plain), 3)
    assert all(map(torch.equal, parameters(ours), parameters(plain)))


def test_the_sum_that_torchs_adagrad_makes_in_its_constructor_loads():
    other = torch.optim.Adagrad(layouts(), initial_accumulator_value=0.3)
    ours = AdaGrad(copies(parameters(other)))
    ours.load_state_dict(other.state_dict())
    assert all((state["sum"] == 0.3).all() for state in ours.state.values())


@pytest.mark.parametrize("kind", [AdamW, torch.optim.AdamW])
def test_decay_of_adamw_stays_decoupled_whatever_it_loads(kind):
    other = Adam(layouts(), weight_decay=0.1)
    walk((other,), 1)
    opt = kind(layouts())
    opt.load_state_dict(other.state_dict())
    group = opt.param_groups[0]
    assert (group["weight_decay"], group["decoupled_weight_decay"]) == (0.1, True)


def test_a_checkpoint_of_adamw_from_before_decay_had_a_name_stays_decoupled():
    other = torch.optim.AdamW(layouts(), weight_decay=0.1)
    walk((other,), 3)
    saved = other.state_dict()
    del saved["param_groups"][0]["decoupled_weight_decay"]
    ours = AdamW(copies(parameters(other)))
    ours.load_state_dict(saved)
    walk((ours, other), 3)
    assert apart((ours, other)) <= ROUNDING


def test_what_one_of_adam_and_adamw_saved_goes_on_in_the_other():
    options = {"weight_decay": 0.1, "amsgrad": True}
    opt = AdamW(layouts(), **options)
    walk((opt,), 3)
    again = Adam(copies(parameters(opt)))
    again.load_state_dict(opt.state_dict())
    walk((opt, again), 3)
    assert all(map(torch.equal, tensors(opt), tensors(again)))


def with_state(kind):
    """State of every name that its state dicts may have."""
    options = {
        SGD: {"momentum": 0.9},
        torch.optim.SGD: {"momentum": 0.9},
        RMSProp: {"momentum": 0.9, "centered": True},
    }
    opt = kind(layers().parameters(), **options.get(kind, {}))
    walk((opt,), 2)
    return opt


WRITERS = [*NAMESAKES, *NAMESAKES.values(), RMSProp, torch.optim.Adadelta]
ADAM = {Adam, AdamW, torch.optim.Adam, torch.optim.AdamW}
FOREIGN = [
    (reader, writer)
    for reader, writer in itertools.product([*NAMESAKES, RMSProp, SignSGD], WRITERS)
    if writer not in (reader, NAMESAKES.get(reader)) and not {reader, writer} <= ADAM
]


@pytest.mark.parametrize(("reader", "writer"), FOREIGN)
def test_the_state_of_another_optimizer_is_refused_and_changes_nothing(reader, writer):
    opt, saved = with_state(reader), with_state(writer).state_dict()
    before = contents(opt)
    with pytest.raises(ValueError, match="the state of parameter 0 of group 0 has") as error:
        opt.load_state_dict(saved)
    assert one_line(error.value)
    assert str(error.value).startswith(f"{reader.__name__}: ")
    assert contents(opt) == before


DAMAGE = {
    "shape": (lambda s, n: s.update({n: s[n][:2]}), "must have its shape", ValueError),
    "complex": (lambda s, n: s.update({n: s[n] + 0j}), "must be of a dtype", TypeError),
    "number": (lambda s, n: s.update({n: 1.0}), "must be a dense tensor", TypeError),
    "count": (lambda s, n: s.update(step=-1), "must be a count, got -1", TypeError),
}


@pytest.mark.parametrize(("edit", "message", "error"), DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("kind", [SGD, AdaGrad, Adam, AdamW, Rprop])
def test_damaged_state_is_refused_in_one_line_and_changes_nothing(kind, edit, message, error):
    saved, opt = copy.deepcopy(with_state(kind).state_dict()), with_state(kind)
    edit(saved["state"][2], list(saved["state"][2])[-1])
    before = contents(opt)
    with pytest.raises(error, match=message) as raised:
        opt.load_state_dict(saved)
    assert one_line(raised.value, kind.__name__, "parameter 2 of group 0")
    assert contents(opt) == before


NEGATIVE = [(AdaGrad, "sum"), (Adam, "exp_avg_sq"), (Rprop, "step_size")]


@pytest.mark.parametrize(("kind", "name"), NEGATIVE)
def test_a_sum_of_squares_or_a_size_below_zero_is_refused(kind, name):
    saved, opt = with_state(kind).state_dict(), with_state(kind)
    saved["state"][2][name].view(-1)[-1] = -0.5
    before = contents(opt)
    with pytest.raises(ValueError, match=f"'{name}' of parameter 2.*negative, got -0.5") as error:
        opt.load_state_dict(saved)
    assert one_line(error.value)
    assert contents(opt) == before


WRONG = [
    (SGD, "momentum", -1.0),
    (AdaGrad, "lr_decay", -1.0),
    (Adam, "betas", (0.9, 1.0)),
    (AdamW, "eps", -1.0),
    (Rprop, "etas", (0.5, 0.9)),
    (SignSGD, "lr", -1.0),
]


@pytest.mark.parametrize(("kind", "name", "value"), WRONG)
def test_a_wrong_setting_in_a_state_dict_is_refused_and_changes_nothing(kind, name, value):
    saved, opt = with_state(kind).state_dict(), with_state(kind)
    saved["param_groups"][0][name] = value
    before = contents(opt)
    with pytest.raises(ValueError, match=f"{name}.* must be .* in group 0 of the state") as error:
        opt.load_state_dict(saved)
    assert one_line(error.value, kind.__name__)
    assert contents(opt) == before


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda both: pickle.loads(pickle.dumps(both))}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize(("kind", "options"), OWN)
def test_a_copy_of_model_and_optimizer_goes_on_to_the_bit(kind, options, copied):
    first = layers().bfloat16()
    opt = kind(first.named_parameters(), **options)
    walk((opt,), 3)
    second, again = copied((first, opt))
    before = contents(opt)
    walk((again,), 3, first=3)
    assert contents(opt) == before
    assert [id(p) for p in parameters(again)] == [id(p) for p in second.parameters()]
    walk((opt,), 3, first=3)
    assert all(map(torch.equal, tensors(opt), tensors(again)))


@pytest.mark.parametrize(("kind", "options"), OWN)
def test_parameters_without_a_gradient_have_no_state_in_a_checkpoint(kind, options):
    opt, again = kind(layouts(), **options), kind(layouts())
    set_gradients(0, parameters(opt))
    parameters(opt)[1].grad = None
    opt.step()
    again.load_state_dict(through_a_file(opt.state_dict()))
    assert parameters(again)[1] not in again.state


def test_the_sums_of_adagrad_can_be_shared_before_the_first_step_as_in_torch():
    opts = [kind([nn.Parameter(torch.ones(3))]) for kind in (AdaGrad, torch.optim.Adagrad)]
    for opt in opts:
        opt.share_memory()
    assert all(opt.state[parameters(opt)[0]]["sum"].is_shared() for opt in opts)
    walk(opts, 3)
    assert apart(opts) <= 1e-6  # rounding of 3 steps in float32
