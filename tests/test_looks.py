"""A look tells of torch's optimizers what it tells of ours, and the extension what NumPy tells."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from looked import CLOSE, MAKERS, alike, leave_to_numpy, looked_at, measured
from torch import nn

from meansquare import Adam, RMSProp
from meansquare.kernels import cpu
from meansquare.watching import measuring
from meansquare.watching.divisor import real
from meansquare.watching.measuring import Before, told

requires_native = pytest.mark.skipif(cpu.native is None, reason="no extension")


@pytest.mark.parametrize("name", MAKERS)
def test_torchs_optimizers_are_measured_as_ours_are(name):
    ours, theirs, options = MAKERS[name]
    found = []
    for kind in (ours, theirs):
        p = nn.Parameter(torch.tensor([1.0, -2.0, 3.0, 0.0]))
        optimizer = kind([p], lr=0.1, **options)
        for gradient in ([1.0, 0.5, -1e-3, 0.0], [0.3, 2.0, -1e-2, 0.0]):
            seen = looked_at(optimizer, p, gradient)
        found.append(seen)
    for what, value in found[0].items():
        # A square root of torch's is off by an ulp in a fifth of all cases.
        assert alike(value, found[1][what], 1e-6), what


@pytest.mark.parametrize("kind", ["RMSProp", "AdaGrad", "Adam", "AMSGrad"])
def test_a_plain_step_is_the_effective_learning_rate_times_the_gradient(kind):
    maker, _, options = MAKERS[kind]
    betas = {"betas": (0.0, 0.9)} if maker is Adam else {}
    p = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = maker([p], lr=0.1, **options, **betas)
    for gradient in ([1.0, 1.0, 1.0], [2.0, 2.0, 2.0]):
        p.grad = torch.tensor(gradient, dtype=torch.float64)
        before = Before(optimizer, None)
        optimizer.step()
    seen = measured(optimizer, before)[0]
    assert seen["update"] == pytest.approx(seen["rate"][2] * 2.0, rel=CLOSE)


@pytest.mark.parametrize("place", ["outside", "inside", "max"])
def test_the_rate_has_eps_where_the_optimizer_has_it(place):
    p = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = RMSProp([p], lr=0.1, eps=0.5, eps_place=place)
    p.grad = torch.ones(1, dtype=torch.float64)
    before = Before(optimizer, None)
    optimizer.step()
    seen = measured(optimizer, before)[0]
    assert seen["update"] == pytest.approx(seen["rate"][2], rel=CLOSE)
    assert seen["eps_rules"] == 1.0


def test_what_is_not_finite_is_counted_also_where_it_was_not_picked():
    p = nn.Parameter(torch.ones(1000))
    optimizer = RMSProp([p])
    p.grad = torch.ones(1000)
    p.grad[1] = math.inf
    before = Before(optimizer, 10)
    optimizer.step()
    seen = measured(optimizer, before)[0]
    assert seen["nonfinite"] == 3  # weight (NaN), gradient and v
    assert seen["gradient"] == 1.0


def test_what_is_not_finite_is_counted_in_weights_gradients_and_all_state():
    p = nn.Parameter(torch.ones(3))
    optimizer = RMSProp([p], momentum=0.9)
    looked_at(optimizer, p, [1.0, 1.0, 1.0])
    optimizer.state[p]["momentum_buffer"][1] = math.inf
    assert looked_at(optimizer, p, [math.nan, 1.0, 1.0])["nonfinite"] == 6  # p and b twice


FORMS = {
    "plain": lambda shape: torch.randn(shape),
    "float64": lambda shape: torch.randn(shape, dtype=torch.float64),
    "bfloat16": lambda shape: torch.randn(shape).bfloat16(),
    "float16": lambda shape: torch.randn(shape).half(),
    "columns first": lambda shape: torch.randn(shape[::-1]).permute(*range(len(shape))[::-1]),
    "with gaps": lambda shape: torch.randn(*shape, 3)[..., 1],
}
SIZES = [(1,), (7,), (64, 64), (31, 5, 9), (3, 4, 5, 6), (5000,)]
KINDS = ["RMSProp", "RMSProp with momentum", "centered", "AdaGrad", "Adam", "AMSGrad", "SGD"]


@requires_native
@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    st.sampled_from([*FORMS]),
    st.sampled_from([*FORMS]),
    st.sampled_from(SIZES),
    st.sampled_from(KINDS),
    st.sampled_from([None, 1, 100, 4096]),
    st.sampled_from([0.0, math.nan, math.inf, -math.inf, 1e30]),
    st.booleans(),
)
def test_the_extension_tells_what_numpy_tells(form, other, shape, kind, most, odd, ours):
    torch.manual_seed(0)
    maker = MAKERS[kind][0 if ours else 1]
    params = [nn.Parameter(FORMS[form](shape)), nn.Parameter(torch.randn(4, 3))]
    params.append(nn.Parameter(torch.ones(2)))  # has no gradient
    optimizer = maker(params, lr=0.1, **MAKERS[kind][2])
    for _ in range(2):
        params[0].grad = FORMS[other](shape).to(params[0].dtype)
        params[0].grad[(0,) * len(shape)] = odd
        params[1].grad = torch.randn(4, 3)
        before = Before(optimizer, most)
        optimizer.step()
    assert not before.others
    with_native = measured(optimizer, before)
    leave_to_numpy(before)
    with_numpy = measured(optimizer, before)
    assert with_native[2] is with_numpy[2] is None
    for native, plain in zip(with_native[:2], with_numpy[:2], strict=True):
        assert [*native] == [*plain]
        for name, value in plain.items():
            assert alike(native[name], value, CLOSE), name


@requires_native
@pytest.mark.parametrize("kind", ["Adam", "AdaGrad"])
def test_parameters_of_one_group_may_have_taken_other_numbers_of_steps(kind):
    maker, _, options = MAKERS[kind]
    params = [nn.Parameter(torch.randn(3)) for _ in range(3)]
    optimizer = maker(params, lr=0.1, **options)
    for owners in (params[:1], params):
        for p in owners:
            p.grad = torch.ones(3)
        before = Before(optimizer, None)
        optimizer.step()
    with_native = measured(optimizer, before)
    leave_to_numpy(before)
    for native, plain in zip(with_native, measured(optimizer, before), strict=True):
        assert alike(native["rate"], plain["rate"], CLOSE)
    rates = [seen["rate"] for seen in with_native]
    assert rates[0] != rates[1] == rates[2]


@requires_native
@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("RMSProp", {"lr": 0.3}),
        ("RMSProp", {"lr": torch.tensor(0.3)}),
        ("RMSProp", {"eps": 0.5}),
        ("RMSProp", {"eps": 0.5, "eps_place": "inside"}),
        ("centered", {"centered": False}),
        ("AdaGrad", {"lr_decay": 0.5}),
        ("Adam", {"betas": (0.5, 0.6)}),
        ("AMSGrad", {"amsgrad": False}),
    ],
)
def test_changed_settings_are_seen_at_the_next_look(kind, changed):
    torch.manual_seed(0)
    maker, _, options = MAKERS[kind]
    params = [nn.Parameter(torch.randn(3)) for _ in range(3)]
    optimizer = maker([{"params": params[:2]}, {"params": params[2:]}], lr=0.1, **options)
    known = measuring.kinds()
    rates = []
    for change in ({}, {}, changed, {}):
        optimizer.param_groups[0].update(change)
        for p in params:
            p.grad = torch.randn(3)
        before = Before(optimizer, None)
        optimizer.step()
        seen = told(measuring.measured(optimizer, before, known))
        rates.append([one["rate"] for one in seen])
        leave_to_numpy(before)
        for native, plain in zip(seen, measured(optimizer, before), strict=True):
            assert alike(native["rate"], plain["rate"], CLOSE)
    assert rates[0] != rates[1] != rates[2] != rates[3]


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("which", [0, 1])
def test_the_settings_that_tell_the_kind_of_a_step_are_all_known(name, which):
    read = set()

    class Group(dict):
        def get(self, name, default=None):
            read.add(name)
            return super().get(name, default)

        def __getitem__(self, name):
            read.add(name)
            return super().__getitem__(name)

        def __contains__(self, name):
            read.add(name)
            return super().__contains__(name)

    p = nn.Parameter(torch.ones(2))
    optimizer = MAKERS[name][which]([p], lr=0.1, **MAKERS[name][2])
    looked_at(optimizer, p, [1.0, 1.0])
    group = optimizer.param_groups[0]
    changes = [{}, {"eps_place": "inside_with_momentum"}, {"bias_correction": True}]
    for change in changes if "alpha" in group else [{}]:
        measuring._kind(Group({**group, **change}), optimizer.state[p])
    assert read
    assert read <= {*measuring.SETTINGS}


@requires_native
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_loss_is_read_where_it_lies(dtype, shape):
    loss = torch.full(shape, -0.3, dtype=dtype, requires_grad=True)
    assert cpu.native.number_in(loss) == loss.item()


@requires_native
@pytest.mark.parametrize(
    "t",
    [
        torch.ones(2),
        torch.ones(0),
        torch.tensor(3),
        torch.tensor(1j),
        torch.tensor(1j).conj().imag,
        torch.ones(1).to_sparse(),
        torch.empty((), device="meta"),
        3.0,
    ],
)
def test_what_is_no_number_in_memory_is_not_read(t):
    assert cpu.native.number_in(t) is None


@requires_native
@pytest.mark.parametrize(
    "p",
    [
        torch.randn(3, dtype=torch.complex64),
        torch.randn(3, dtype=torch.complex64).conj().imag,
        torch.randn(1, dtype=torch.complex64).conj().imag,
        torch.zeros(0, 4),
    ],
)
def test_what_the_extension_cannot_read_is_left_to_numpy(p):
    optimizer = torch.optim.SGD([p], lr=0.1)
    p.grad = torch.ones_like(p)
    before = Before(optimizer, None)
    assert [*before.others] == [0]
    assert torch.equal(before.of(0).flatten().resolve_neg(), real(p).flatten().resolve_neg())
    optimizer.step()
    (seen,) = measured(optimizer, before)
    assert (
        seen is None
        if p.numel() == 0
        else seen["update"] == pytest.approx(0.1 / 2 ** (p.is_complex() / 2))
    )


@requires_native
@pytest.mark.parametrize("name", [] if cpu.native is None else cpu.native.instruction_sets())
def test_every_instruction_set_tells_the_same(name):
    p = nn.Parameter(torch.randn(1001))
    optimizer = RMSProp([p], centered=True)
    p.grad = torch.randn(1001)
    before = Before(optimizer, None)
    optimizer.step()
    usual = cpu.native.instruction_set()
    found = measured(optimizer, before)
    cpu.native.use_instruction_set(name)
    try:
        assert measured(optimizer, before) == found
    finally:
        cpu.native.use_instruction_set(usual)
