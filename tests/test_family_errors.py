"""Every wrong setting of every member gets one line that says what and where; nothing changes."""

import itertools
import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from members import NAMESAKES
from snapshot import contents, one_line
from torch import nn
from twins import layouts, parameters, set_gradients, walk

from meansquare import SGD, AdaGrad, Adam, AdamW, RMSProp, Rprop, SignSGD

SGDS = (SGD, torch.optim.SGD)
nan, inf = math.nan, math.inf
NEGATIVE_OR_NOT_FINITE = (-1, -1e-30, nan, inf, -inf, torch.tensor(-0.5))
NO_NUMBERS = ("0.1", [0.1], 1j, torch.ones(2), 10**400)
NO_FLAGS = (2, "yes", torch.tensor([True, False]), nan)
NO_FRACTIONS = (-0.1, 1, 1.5, nan, inf, torch.tensor(1.0))
NO_PAIRS = (0.5, (), (0.5,), (0.5, 0.6, 0.7), None, "ab", torch.ones(2), {0.5, 0.6})
NO_ETAS = ((0.0, 1.2), (-0.5, 1.2), (1.0, 1.2), (nan, 1.2), (0.5, 1.0), (0.5, inf), (0.5, nan))
NO_SIZES = ((-1e-6, 50), (nan, 50), (inf, 50), (1e-6, nan), (1e-6, -50))

NUMBERS = {
    SGD: ("lr", "momentum", "weight_decay"),
    AdaGrad: ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps"),
    Adam: ("lr", "eps", "weight_decay"),
    AdamW: ("lr", "eps", "weight_decay"),
    Rprop: ("lr",),
    SignSGD: ("lr", "weight_decay"),
}
FLAGS = {
    SGD: ("nesterov", "maximize", "differentiable"),
    AdaGrad: ("maximize", "differentiable"),
    Adam: ("amsgrad", "decoupled_weight_decay", "capturable", "maximize", "differentiable"),
    AdamW: ("amsgrad", "capturable", "maximize", "differentiable"),
    Rprop: ("capturable", "maximize", "differentiable"),
    SignSGD: ("maximize", "differentiable"),
}
LIMITS = {
    **dict.fromkeys(NUMBERS, ("clip_value", "max_grad_norm")),
    **dict.fromkeys((RMSProp, Adam, AdamW), ("clip_value", "max_grad_norm", "max_update_rms")),
}


def each(names, values, error):
    """A case for every setting in a table of optimizers and every value."""
    return [
        (kind, {name: value}, name, error)
        for kind, own in names.items()
        for name, value in itertools.product(own, values)
    ]


def halves(kind, name, good, wrong):
    """A case for either half of a pair, with each wrong value."""
    for i, value in itertools.product((0, 1), wrong):
        both = list(good)
        both[i] = value
        yield kind, {name: tuple(both)}, f"{name}[{i}]", ValueError


WRONG = [
    *each(NUMBERS, NEGATIVE_OR_NOT_FINITE, ValueError),
    *each(NUMBERS, (*NO_NUMBERS, None), TypeError),
    *each(FLAGS, (*NO_FLAGS, None), TypeError),
    *each(dict.fromkeys(NUMBERS, ("foreach",)), NO_FLAGS, TypeError),
    *each(LIMITS, (0, *NEGATIVE_OR_NOT_FINITE), ValueError),
    *each(LIMITS, NO_NUMBERS, TypeError),
    *each(dict.fromkeys(LIMITS, ("seed",)), (-1, 2**64, 0.5, "1", None), ValueError),
    *each({SGD: ("dampening",)}, (nan, inf, -inf), ValueError),
    *each({SGD: ("dampening",)}, (*NO_NUMBERS, None), TypeError),
    *each({Adam: ("betas",), AdamW: ("betas",)}, NO_PAIRS, TypeError),
    *each({Rprop: ("etas", "step_sizes")}, NO_PAIRS, TypeError),
    *halves(Adam, "betas", (0.9, 0.999), NO_FRACTIONS),
    *halves(AdamW, "betas", (0.9, 0.999), NO_FRACTIONS),
    *((Rprop, {"etas": etas}, "etas[", ValueError) for etas in NO_ETAS),
    *((Rprop, {"step_sizes": sizes}, "step_sizes[", ValueError) for sizes in NO_SIZES),
    (Adam, {"betas": ("0.9", 0.9)}, "betas[0]", TypeError),
    (Adam, {"betas": (0.9, torch.ones(2))}, "betas[1]", TypeError),
]
TOGETHER = [
    (SGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.5}, "dampening", ValueError),
    (SGD, {"nesterov": True, "momentum": 0.9, "dampening": -0.5}, "dampening", ValueError),
]
CASES = [*WRONG, *TOGETHER]
each_wrong = pytest.mark.parametrize(
    ("kind", "options", "name", "error"),
    CASES,
    ids=[f"{kind.__name__}-{str(options)[:40]}" for kind, options, _, _ in CASES],
)


def mid_run(kind):
    """Two steps into a run of two groups, with gradients for a third."""
    half = [nn.Parameter(p.detach().bfloat16()) for p in layouts()]
    opt = kind([{"params": layouts()}, {"params": half}])
    walk((opt,), 2)
    set_gradients(2, parameters(opt))
    return opt


def assert_refuses(kind, call, error, name, where):
    with pytest.raises(error) as raised:
        call()
    assert one_line(raised.value)
    assert str(raised.value).startswith(f"{kind.__name__}: {name}")
    assert " must be " in str(raised.value)
    assert ", got " in str(raised.value)
    assert str(raised.value).endswith(f" in group {where}")


@each_wrong
def test_the_constructor_refuses_it_in_one_line(kind, options, name, error):
    params = [nn.Parameter(torch.ones(2))]
    assert_refuses(kind, lambda: kind(params, **options), error, name, 0)


@each_wrong
def test_a_new_group_with_it_is_not_added(kind, options, name, error):
    opt = kind([p := nn.Parameter(torch.ones(2))])
    p.grad = torch.ones(2)
    opt.step()
    before = contents(opt)
    group = {"params": [nn.Parameter(torch.ones(2))], **options}
    assert_refuses(kind, lambda: opt.add_param_group(group), error, name, 1)
    assert contents(opt) == before


@each_wrong
def test_set_in_mid_run_it_stops_the_step_before_anything_is_written(kind, options, name, error):
    opt = mid_run(kind)
    opt.param_groups[1].update(options)
    before = contents(opt)
    assert_refuses(kind, opt.step, error, name, 1)
    assert contents(opt) == before


@pytest.mark.parametrize("kind", LIMITS)
def test_after_an_error_the_step_goes_on_as_if_nothing_had_been(kind):
    opt, plain = mid_run(kind), mid_run(kind)
    for name, value in (("lr", -1), ("clip_value", 0), ("max_grad_norm", -1), ("seed", None)):
        kept = opt.param_groups[1][name]
        opt.param_groups[1][name] = value
        with pytest.raises(ValueError, match=f"{kind.__name__}: {name} must be"):
            opt.step()
        opt.param_groups[1][name] = kept
    opt.step()
    plain.step()
    assert contents(opt)[0] != contents(plain)[0]  # other memory
    assert [row[-1] for row in contents(opt)[0]] == [row[-1] for row in contents(plain)[0]]


@pytest.mark.parametrize("kind", LIMITS)
def test_an_option_of_another_member_is_refused(kind):
    foreign = "alpha" if kind is not RMSProp else "betas"
    with pytest.raises(TypeError, match=f" argument '{foreign}'"):
        kind(layouts(), **{foreign: 0.5})


@pytest.mark.parametrize("kind", LIMITS)
def test_a_limit_on_the_norm_and_steps_in_backward_exclude_each_other(kind):
    opt = kind([p := nn.Parameter(torch.ones(2))], max_grad_norm=1.0)
    with pytest.raises(ValueError, match="max_grad_norm must be None") as error:
        opt.step_in_backward()
    assert one_line(error.value, kind.__name__)
    p.sum().backward()
    assert p.tolist() == [1.0, 1.0]


def refusal(call):
    try:
        call()
    except (TypeError, ValueError) as error:
        return error
    return None


SETTINGS = {
    kind: sorted({*kind._kind.names(), "foreach", "capturable"} & set(opt.defaults))
    for kind, opt in ((kind, kind([nn.Parameter(torch.ones(2))])) for kind in LIMITS)
}
# Of any sign and size that the state of a parameter can hold, and those that are no numbers.
FLOATS = st.one_of(st.floats(-1e30, 1e30), st.sampled_from([nan, inf, -inf, -0.0, 0.0, 1.0]))
ONE = st.one_of(
    FLOATS,
    st.integers(-(10**30), 10**30),
    st.booleans(),
    st.none(),
    st.text(max_size=3),
    st.complex_numbers(),
    FLOATS.map(torch.tensor),
)
ANY = st.one_of(ONE, st.lists(ONE, max_size=3), st.tuples(ONE, ONE))


@given(data=st.data(), kind=st.sampled_from(list(LIMITS)))
@settings(deadline=None, max_examples=300, derandomize=True)
def test_any_value_is_taken_or_refused_in_one_line(data, kind):
    name, value = data.draw(st.sampled_from(SETTINGS[kind])), data.draw(ANY)
    opt = kind([p := nn.Parameter(torch.ones(2))])
    p.grad = torch.ones(2)
    opt.param_groups[0][name] = value
    before = contents(opt)
    error = refusal(opt.step)
    if error is None:
        assert opt.state[p]["step"] == 1
    else:
        assert one_line(error, kind.__name__, name, ", got ", "in group 0")
        assert contents(opt) == before
        assert not opt.state


def test_nesterovs_momentum_needs_some_to_begin_with_and_may_be_switched_off():
    with pytest.raises(ValueError, match="SGD: momentum must be > 0 where nesterov is True, got 0"):
        SGD([nn.Parameter(torch.ones(2))], nesterov=True)
    opts = [kind([nn.Parameter(torch.ones(2))], momentum=0.9, nesterov=True) for kind in SGDS]
    for t, momentum in enumerate((0.9, 0, 0, 0.9)):
        for opt in opts:
            opt.param_groups[0]["momentum"] = momentum
        walk(opts, 1, first=t)
    assert torch.allclose(*(parameters(opt)[0] for opt in opts), rtol=1e-6)  # rounding of 4 steps


TOO_LARGE = {
    AdaGrad: (
        {"initial_accumulator_value": 1e300},
        "AdaGrad: 'sum' cannot begin at 1e.300",
    ),
    Rprop: ({"lr": 1e300}, "Rprop: 'step_size' cannot begin at 1e.300 in torch.float32"),
    RMSProp: ({"initial_square_avg": 1e300}, "RMSProp: 'square_avg' cannot begin at 1e.300"),
}


@pytest.mark.parametrize("kind", TOO_LARGE)
def test_what_no_state_can_hold_is_refused_at_the_step_and_changes_nothing(kind):
    options, message = TOO_LARGE[kind]
    opt = kind([p := nn.Parameter(torch.ones(2))], **options)
    p.grad = torch.ones(2)
    with pytest.raises(ValueError, match=message):
        opt.step()
    assert torch.equal(p.detach(), torch.ones(2))
    assert not opt.state


def drawn(kind):
    """Numbers and pairs of any size for some of the settings that torch knows."""
    pairs = {name: st.tuples(FLOATS, FLOATS) for name in ("betas", "etas")}
    numbers = dict.fromkeys(("dampening", *NUMBERS[kind]), FLOATS)
    known = {n: s for n, s in (pairs | numbers).items() if n in kind([torch.ones(1)]).defaults}
    flags = {"nesterov": st.booleans()} if kind is SGD else {}
    return st.fixed_dictionaries({}, optional=known | flags)


DRAWN = {kind: drawn(kind) for kind in NAMESAKES}


@given(data=st.data(), kind=st.sampled_from(list(NAMESAKES)))
@settings(deadline=None, max_examples=300, derandomize=True)
def test_what_torch_refuses_is_refused_and_what_is_not_finite(data, kind):
    options = data.draw(DRAWN[kind])
    ours, theirs = (
        refusal(partial(k, [torch.ones(1)], **options)) for k in (kind, NAMESAKES[kind])
    )
    values = [x for v in options.values() for x in (v if isinstance(v, tuple) else (v,))]
    if all(map(math.isfinite, values)):  # torch takes NaN and infinity in places
        assert (ours is None) == (theirs is None)
    else:
        assert ours is not None
    assert ours is None or one_line(ours, kind.__name__)
