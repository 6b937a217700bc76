"""The C++ kernels give the oracle's bits, for every rule, format, layout and number of threads."""

from typing import get_args

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from members import MEMBERS, Member
from twins import kernels_of

from meansquare import RMSProp
from meansquare.family import RMSPropHyper
from meansquare.kernels import cpu
from meansquare.kernels.storage import random_bits, round_stochastically
from meansquare.spec import Spec, all_specs

LENGTHS = (0, 1, 7, 8, 63, 1003)
DTYPES = (torch.float32, torch.float64)
pytestmark = pytest.mark.skipif(cpu.native is None, reason=f"C++ kernels {cpu.detail}")


@pytest.fixture(params=cpu.native.instruction_sets() if cpu.native else [])
def instruction_set(request):
    before = cpu.native.instruction_set()
    cpu.native.use_instruction_set(request.param)
    yield request.param
    cpu.native.use_instruction_set(before)


def gradients(n: int, seed: int) -> np.ndarray:
    """Normal numbers over forty decades, with zeros, infinities and NaN among them."""
    random = np.random.default_rng(seed)
    g = random.standard_normal(n) * 10.0 ** random.integers(-22, 18, n)
    return np.where(random.random(n) < 0.02, random.choice([0.0, -0.0, np.inf, np.nan], n), g)


def same_bits(ours: np.ndarray, exact: np.ndarray) -> bool:
    """Equal to the last bit and the sign of zero, whatever the payload of a NaN."""
    plain = np.isnan(ours) & np.isnan(exact)
    zeros = np.where(plain, 0, ours).tobytes() == np.where(plain, 0, exact).tobytes()
    return ours.dtype == exact.dtype and zeros


def off_by_one(n: int, dtype: torch.dtype) -> torch.Tensor:
    """A tensor whose memory starts one element after where vectors would like it."""
    return torch.empty(n + 1, dtype=dtype)[1:]


def assert_equals_oracle(member, extra, lengths, dtype, steps=2):
    kind = np.dtype(str(dtype).removeprefix("torch."))
    params = [off_by_one(n, dtype) for n in lengths]
    starts = [np.random.default_rng(n).standard_normal(n).astype(kind) for n in lengths]
    for p, start in zip(params, starts, strict=True):
        p.copy_(torch.from_numpy(start))
        p.grad = off_by_one(len(p), dtype)
    opt = member.kind(params, **member.options | extra)
    hyper = member.kind._kind.checked(opt.param_groups[0], "")
    names = hyper.rule.buffers
    exact = [[x, *(np.full_like(x, hyper.first(name)) for name in names)] for x in starts]
    for t in range(1, steps + 1):
        for i, p in enumerate(params):
            g = gradients(len(p), seed=t).astype(kind)
            p.grad.copy_(torch.from_numpy(g))
            exact[i] = oracle.step(hyper, t, exact[i][0], g, *exact[i][1:])
        opt.step()
    for p, want in zip(params, exact, strict=True):
        ours = [p, *(opt.state[p][name] for name in names)]
        assert all(same_bits(a.numpy(), b) for a, b in zip(ours, want, strict=True))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.key)
def test_every_rule_equals_the_oracle_on_every_instruction_set(member, dtype, instruction_set):
    for extra in member.extras:
        assert_equals_oracle(member, extra, LENGTHS, dtype, steps=3)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.key)
def test_a_million_elements_equal_the_oracle_on_one_thread_and_on_three(member, dtype, threads):
    for n in (1, 3):
        threads(n)
        assert_equals_oracle(member, member.extras[-1], (1_000_003,), dtype, steps=1)


@given(
    spec=st.sampled_from(all_specs()),
    lr=st.floats(0, 1e3),
    alpha=st.floats(0, 1, exclude_max=True),
    eps=st.one_of(st.just(0.0), st.floats(1e-300, 1e3)),
    decay=st.floats(0, 10),
    mode=st.sampled_from(["l2", "decoupled", "corrected"]),
    dtype=st.sampled_from(DTYPES),
    n=st.integers(0, 70),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_hyper_parameters_give_the_oracles_bits(spec, lr, alpha, eps, decay, mode, dtype, n):
    numbers = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": decay}
    options = oracle.options_of(spec) | numbers | {"weight_decay_mode": mode}
    assert_equals_oracle(Member(RMSProp, options), {}, (n,), dtype)


LAYOUTS = {
    "transposed": lambda x: x.t(),
    "columns": lambda x: x[:, ::3],
    "rows and columns": lambda x: x[1::2, 2::5],
    "permuted": lambda x: x.view(8, 5, 60).permute(2, 0, 1),
    "permuted slice": lambda x: x.view(8, 5, 60)[:, 1:4, ::2].permute(1, 2, 0),
}


@pytest.mark.parametrize("gradient", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("parameter", LAYOUTS.values(), ids=LAYOUTS)
def test_any_layout_gives_the_bits_of_a_contiguous_step(parameter, gradient):
    torch.manual_seed(0)
    p = parameter(torch.randn(40, 60))
    source = gradient(torch.randn(40, 60, dtype=torch.float64)).flatten()
    values = source[torch.arange(p.numel()) % source.numel()].reshape(p.shape)
    plain = p.clone(memory_format=torch.contiguous_format)
    spread = torch.empty(2, *p.shape)[0].mT if p.ndim == 2 else torch.empty(*p.shape, 2)[..., 0]
    spread = spread.mT if p.ndim == 2 else spread
    p.grad, plain.grad = spread.copy_(values), values.float()
    for q in (p, plain):
        RMSProp([q], momentum=0.9, centered=True).step()
    assert torch.equal(p, plain)


@pytest.mark.parametrize("gradient", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_a_gradient_of_another_dtype_counts_with_its_exact_value(kind, gradient):
    values = torch.from_numpy(gradients(1003, seed=1)).to(gradient)
    p, q = torch.ones(1003, dtype=kind), torch.ones(1003, dtype=kind)
    p.grad_dtype = None
    p.grad, q.grad = values, values.to(kind)
    for tensor in (p, q):
        RMSProp([tensor]).step()
    assert torch.equal(p.nan_to_num(7), q.nan_to_num(7))


ROUNDINGS = {torch.bfloat16: oracle.to_bfloat16, torch.float16: oracle.to_float16}


@pytest.mark.parametrize("dtype", ROUNDINGS, ids=str)
def test_half_precision_parameters_round_as_the_oracle_does(dtype, instruction_set):
    p = (torch.randn(5003, generator=torch.manual_seed(0)) * 10).to(dtype)
    g = np.random.default_rng(0).standard_normal(5003).astype(np.float32)
    start = p.float().numpy()
    p.grad = torch.from_numpy(g).to(dtype)
    opt = RMSProp([torch.zeros(1), p], lr=1e-3, seed=7)
    opt.step()
    zeros = np.zeros_like(start)
    new, square_avg = oracle.step(RMSPropHyper(lr=1e-3), 1, start, p.grad.float().numpy(), zeros)
    want = ROUNDINGS[dtype](new, oracle.random_bits(5003, seed=7, ordinal=1, t=1))
    assert same_bits(p.float().numpy(), want.astype(np.float32))
    assert same_bits(opt.state[p]["square_avg"].numpy(), square_avg)


@pytest.mark.parametrize("dtype", ROUNDINGS, ids=str)
def test_every_float_rounds_as_the_oracle_does_in_torch_operations(dtype):
    bits = np.random.default_rng(0).integers(0, 2**32, 200_000, dtype=np.uint32)
    edges = np.array([0, 65503.9, 65504, 65519.9, 65520, 1e-8, 6.1e-5, np.inf, np.nan], np.float32)
    x = np.concatenate([bits.view(np.float32), edges, -edges])
    random = oracle.random_bits(len(x), 0, 0, 1)
    ours = round_stochastically(torch.from_numpy(x), dtype, torch.from_numpy(random.astype(int)))
    with np.errstate(all="ignore"):
        want = ROUNDINGS[dtype](x, random).astype(np.float32)
    assert same_bits(ours.float().numpy(), want)


def test_the_random_bits_of_an_element_do_not_depend_on_layout_or_backend():
    key = oracle.mix(oracle.mix(oracle.mix(7) ^ 1) ^ 1)
    want = oracle.random_bits(12, seed=7, ordinal=1, t=1).astype(np.int64)
    assert random_bits(torch.empty(3, 4), key).flatten().tolist() == want.tolist()
    assert random_bits(torch.empty(4, 3).t(), key).t().flatten().tolist() == want.tolist()


def test_random_bits_are_uniform():
    counts = np.bincount(oracle.random_bits(1 << 22, 0, 0, 1) >> np.uint32(8), minlength=256)
    # Chi-squared of 256 cells: mean 255, standard deviation 22.6; six of them allowed.
    assert abs(((counts - 16384) ** 2 / 16384).sum() - 255) < 6 * 22.6


def test_exact_values_survive_stochastic_rounding():
    p = torch.arange(-128.0, 128.0).to(torch.bfloat16)
    p.grad = torch.ones_like(p)
    RMSProp([p], lr=0.0).step()
    assert torch.equal(p, torch.arange(-128.0, 128.0).to(torch.bfloat16))


def test_a_spec_without_momentum_has_no_place_for_the_learning_rate_in_it():
    with pytest.raises(ValueError, match="lr_in_momentum=True needs momentum"):
        Spec(lr_in_momentum=True)


def test_tensors_are_read_alike_in_every_way_there_is():
    native = cpu.native
    tensors = [torch.randn(6, 5), torch.randn(6, 5).t(), torch.randn(4, dtype=torch.complex128)]
    tensors += [torch.randn(3, 2).to(torch.bfloat16), torch.randn(0, 3), torch.tensor(1.0)]
    results = []
    for route in get_args(cpu.Route):
        assert cpu.connect(native, route) == route
        params = [t.clone() for t in tensors]
        for p in params:
            p.grad = torch.ones_like(p)
        opt = RMSProp(params, momentum=0.9)
        opt.step()
        assert kernels_of(opt) == {"cpu"}
        results.append(params)
    cpu.connect(native)
    for params in results[1:]:
        assert all(map(torch.equal, results[0], params))


def test_a_torch_without_its_c_interface_is_read_through_dlpack(monkeypatch):
    monkeypatch.setattr(cpu, "_library", lambda: "")
    try:
        assert cpu.connect(cpu.native) == "DLPack"
    finally:
        monkeypatch.undo()
        assert cpu.connect(cpu.native) == "C interface"
