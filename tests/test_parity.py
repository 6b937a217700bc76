"""RMSProp takes torch.optim.RMSprop's arguments and gives its trajectory."""

import inspect
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from twins import (
    apart,
    copies,
    distance,
    gradient_of,
    layouts,
    pair,
    parameters,
    set_gradients,
    walk,
)

from meansquare import RMSProp

STEPS = 200
# Rounding only: torch adds, multiplies and divides in another order, and its sqrt is not correctly
# rounded. Relative to the size of the parameter.
TOLERANCE = {
    torch.float32: 1e-5,
    torch.complex64: 1e-5,
    torch.float64: 1e-10,
    torch.complex128: 1e-10,
}
# v - m*m loses digits in float32 before the floor is reached.
CENTERED_TOLERANCE = {**TOLERANCE, torch.float32: 1e-4, torch.complex64: 1e-4}

COMBINATIONS = [
    {"momentum": momentum, "centered": centered, "weight_decay": decay, "maximize": maximize}
    for momentum, centered, decay, maximize in itertools.product(
        (0, 0.9), (False, True), (0, 0.1), (False, True)
    )
]


def tolerance(options: dict, dtype: torch.dtype = torch.float32) -> float:
    return (CENTERED_TOLERANCE if options.get("centered") else TOLERANCE)[dtype]


def words(options: dict) -> str:
    return "-".join(f"{name}={value}" for name, value in options.items() if value) or "plain"


def test_the_arguments_of_torch_come_in_its_order_with_its_defaults():
    ours = list(inspect.signature(RMSProp).parameters.values())
    theirs = list(inspect.signature(torch.optim.RMSprop).parameters.values())
    assert [(p.name, p.default, p.kind) for p in ours[: len(theirs)]] == [
        (p.name, p.default, p.kind) for p in theirs
    ]
    *more, spelled = ours[len(theirs) :]
    assert all(p.kind is p.KEYWORD_ONLY for p in more)
    assert spelled.kind is spelled.VAR_KEYWORD


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("options", COMBINATIONS, ids=words)
def test_every_combination_in_every_layout_gives_torchs_trajectory(options, dtype):
    opts = pair(layouts(dtype), lr=1e-3, **options)
    walk(opts, STEPS)
    assert apart(opts) <= tolerance(options, dtype)


HYPER_PARAMETERS = [
    {"lr": 0.1, "alpha": 0.5},
    {"alpha": 0.0},
    {"alpha": 0.9999, "eps": 1e-3},
    {"eps": 0.0},
    {"lr": 0.0, "weight_decay": 1.0},
    {"eps": 10.0, "momentum": 0.5},
    {"momentum": 1.5, "lr": 1e-6},
]


@pytest.mark.parametrize("options", HYPER_PARAMETERS, ids=words)
def test_other_hyper_parameters_give_torchs_trajectory(options):
    opts = pair(layouts(), **options)
    walk(opts, STEPS if options.get("momentum", 0) < 1 else 20)
    assert apart(opts) <= TOLERANCE[torch.float32]


BACKENDS = [
    {"foreach": True},
    {"foreach": False},
    {"foreach": True, "momentum": 0.9, "centered": True},
]


@pytest.mark.parametrize("options", BACKENDS, ids=words)
def test_foreach_is_accepted_and_gives_the_trajectory_of_torchs(options):
    opts = pair(layouts(), lr=1e-3, **options)
    walk(opts, STEPS)
    assert apart(opts) <= tolerance(options)


@pytest.mark.parametrize(
    "options", [{"fused": True}, {"capturable": True}, {"fused": False}], ids=words
)
def test_what_torch_cannot_do_on_a_cpu_changes_no_bit(options):
    plain, asked = RMSProp(layouts()), RMSProp(layouts(), **options)
    walk((plain, asked), 5)
    assert distance(parameters(asked), parameters(plain)) == 0


GROUPS = [
    {"lr": 1e-3},
    {"lr": 2e-3, "momentum": 0.9, "weight_decay": 0.01},
    {"centered": True, "alpha": 0.9, "lr": 1e-3},
    {"maximize": True, "eps": 1e-3, "lr": torch.tensor(1e-3)},
]


def in_groups(kind, params):
    return kind([{"params": params[i::4], **options} for i, options in enumerate(GROUPS)])


def test_groups_with_different_settings_give_torchs_trajectory():
    opts = pair([*layouts(), *layouts(torch.float64, 1), *layouts(torch.complex64, 2)], in_groups)
    walk(opts, STEPS)
    assert apart(opts) <= CENTERED_TOLERANCE[torch.float32]


@pytest.mark.parametrize(
    "lr", [torch.tensor(1e-3), torch.tensor([1e-3], dtype=torch.float64)], ids=str
)
def test_a_tensor_lr_is_read_anew_in_each_step(lr):
    opts = pair(layouts(), lambda kind, own: kind(own, lr=lr.clone()))
    for t, factor in enumerate((1.0, 10.0, 0.0, 0.1)):
        for opt in opts:
            opt.param_groups[0]["lr"].mul_(factor or 1e-3)
        walk(opts, 10, first=10 * t)
    assert apart(opts) <= TOLERANCE[torch.float32]


def test_a_tensor_lr_that_requires_a_gradient_is_only_read():
    opts = pair(layouts(), lr=torch.tensor(1e-3, requires_grad=True))
    walk(opts[:1], 2)
    plain = RMSProp(layouts(), lr=torch.tensor(1e-3))
    walk((plain,), 2)
    assert distance(parameters(opts[0]), parameters(plain)) == 0


def strided(g):
    return torch.stack((g, g), -1)[..., 0]


GRADIENTS = {
    "strided": strided,
    "transposed": lambda g: g.mT.contiguous().mT,
    "expanded": lambda g: g[:1, :1].expand_as(g),
    "expanded_rows": lambda g: g[:1].expand_as(g),
    "a_slice_of_more": lambda g: torch.cat((g, g), 1)[:, 2 : 2 + g.shape[1]],
    "negated": lambda g: torch.complex(strided(g), g).conj().imag,
}


@pytest.mark.parametrize(
    "layout", [lambda p: p, lambda p: p.T, lambda p: p[::2, 1:]], ids=["rows", "columns", "slice"]
)
@pytest.mark.parametrize("gradient", GRADIENTS.values(), ids=GRADIENTS)
def test_gradients_of_any_layout_give_torchs_trajectory(gradient, layout):
    opts = pair(
        [nn.Parameter(layout(torch.randn(8, 6, generator=torch.Generator().manual_seed(0))))]
    )
    for t in range(20):
        set_gradients(t, *map(parameters, opts))
        for opt, p in zip(opts, map(parameters, opts), strict=True):
            p[0].grad = gradient(p[0].grad)
            opt.step()
    assert apart(opts) <= TOLERANCE[torch.float32]


def test_lazily_conjugated_gradients_give_the_trajectory_of_resolved_ones():
    lazy, plain = (RMSProp(layouts(torch.complex64), lr=1e-3) for _ in range(2))
    for t in range(20):
        set_gradients(t, *map(parameters, (lazy, plain)))
        for a, b in zip(parameters(lazy), parameters(plain), strict=True):
            a.grad, b.grad = (gradient_of(p).conj() for p in (a, b))
            b.grad = b.grad.resolve_conj()
            assert a.grad.is_conj()
        lazy.step()
        plain.step()
    # 2e-6: lazy views go through torch operations, whose sqrt is not correctly rounded.
    assert distance(parameters(lazy), parameters(plain)) <= 2e-6


def test_a_lazily_conjugated_parameter_moves_as_the_number_it_shows():
    shown = torch.randn(5, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    lazy, plain = nn.Parameter(shown.conj().clone().conj()), nn.Parameter(shown.clone())
    assert lazy.is_conj()
    walk((RMSProp([lazy], momentum=0.9), RMSProp([plain], momentum=0.9)), 3)
    assert distance([lazy.resolve_conj()], [plain]) <= 2e-6  # torch operations, as above


def test_parameters_without_a_gradient_wait_until_they_have_one():
    opts = pair(layouts(), momentum=0.9, lr=1e-3)
    for t in range(40):
        set_gradients(t, *map(parameters, opts))
        for opt in opts:
            for i, p in enumerate(parameters(opt)):
                p.grad = p.grad if (t + i) % 3 and t > 2 * i else None
            opt.step()
    assert apart(opts) <= TOLERANCE[torch.float32]


def test_momentum_and_centered_switch_off_and_on_as_in_torch():
    opts = pair(layouts(), lr=1e-3, momentum=0.9, centered=True)
    settings_ = [
        (0.9, True),
        (0, True),
        (0, False),
        (0.5, False),
        (0.9, True),
        (0, True),
        (0.9, False),
    ]
    for t, (momentum, centered) in enumerate(settings_):
        for opt in opts:
            opt.param_groups[0].update(momentum=momentum, centered=centered)
        walk(opts, 10, first=10 * t)
    assert apart(opts) <= CENTERED_TOLERANCE[torch.float32]


@pytest.mark.parametrize("name", ["momentum_buffer", "grad_avg"])
def test_what_torch_cannot_switch_on_in_mid_run_starts_from_zero(name):
    switch = {"momentum_buffer": {"momentum": 0.9}, "grad_avg": {"centered": True}}[name]
    opts = pair(layouts(), lr=1e-3)
    walk(opts, 10)
    for opt in opts:
        opt.param_groups[0].update(switch)
    with pytest.raises(KeyError, match=name):
        opts[1].step()
    for p in parameters(opts[1]):
        opts[1].state[p][name] = torch.zeros_like(p)
    walk(opts, 50, first=10)
    assert apart(opts) <= CENTERED_TOLERANCE[torch.float32]


def test_buffers_are_frozen_while_momentum_is_zero():
    opt = RMSProp(layouts(), momentum=0.9, centered=True)
    walk((opt,), 3)
    kept = [
        opt.state[p][name].clone()
        for p in parameters(opt)
        for name in ("momentum_buffer", "grad_avg")
    ]
    opt.param_groups[0].update(momentum=0, centered=False)
    walk((opt,), 3)
    now = [opt.state[p][name] for p in parameters(opt) for name in ("momentum_buffer", "grad_avg")]
    assert all(map(torch.equal, kept, now))


@given(
    shape=st.lists(st.integers(0, 5), max_size=4),
    steps=st.lists(st.integers(1, 3), min_size=4, max_size=4),
    order=st.permutations(range(4)),
    gradient_order=st.permutations(range(4)),
    lr=st.floats(0, 0.1),
    alpha=st.floats(0, 0.9999),
    eps=st.floats(1e-10, 1),
    decay=st.floats(0, 0.5),
    momentum=st.floats(0, 0.99),
    flags=st.tuples(st.booleans(), st.booleans()),
)
@settings(deadline=None, max_examples=150, derandomize=True)
def test_any_shape_strides_and_settings_give_torchs_steps(
    shape, steps, order, gradient_order, lr, alpha, eps, decay, momentum, flags
):
    def view(order, seed):
        axes = [axis for axis in order if axis < len(shape)]
        sizes = [shape[axis] * steps[axis] for axis in axes]
        source = torch.Generator().manual_seed(seed)
        base = torch.randn(sizes, generator=source, dtype=torch.float64)
        sparse = base[tuple(slice(None, None, steps[axis]) for axis in axes)]
        return sparse.permute([axes.index(axis) for axis in range(len(shape))])

    alpha = max(alpha, 0.1) if flags[0] else alpha  # centered at 0, v - m*m is 0 and torch NaN
    named = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": decay, "momentum": momentum}
    opts = pair([nn.Parameter(view(order, 0))], **named, centered=flags[0], maximize=flags[1])
    for seed in (1, 2, 3):
        for p in itertools.chain(*map(parameters, opts)):
            p.grad = view(gradient_order, seed)
        for opt in opts:
            opt.step()
    assert apart(opts) <= TOLERANCE[torch.float64]


def test_copies_keep_strides_and_own_their_memory():
    starts = layouts()
    twins = copies(starts)
    assert [p.stride() for p in twins] == [p.stride() for p in starts]
    assert not {p.data_ptr() for p in twins if p.numel()} & {p.data_ptr() for p in starts}
