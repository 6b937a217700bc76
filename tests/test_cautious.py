"""A cautious step moves only the weights whose step goes against their gradient."""

import itertools
import os
import warnings

import numpy as np
import oracle
import pytest
import torch

from meansquare import RMSProp
from meansquare.hyper import LEAST_SHARE
from meansquare.kernels import compiled, cpu, warn_without_compiler

native = pytest.mark.skipif(cpu.native is None, reason=f"C++ kernels {cpu.detail}")
LENGTHS = (1, 7, 1003, 70_000, 300_000)  # of one thread, of several, of several jobs
CASES = [
    {"momentum": 0.9, "eps_place": place, "centered": centered, "lr_in_momentum": inside} | more
    for (place, centered), (inside, more) in zip(
        itertools.product(("outside", "inside", "max"), (False, True)),
        itertools.cycle(
            [
                (True, {}),
                (False, {"nesterov": True}),
                (True, {"weight_decay": 0.1, "maximize": True}),
            ]
        ),
        strict=False,
    )
]


def gradient(n, t, dtype=np.float64):
    g = np.random.default_rng(t).standard_normal(n) * (1 if t % 2 else -1)
    return np.where(np.arange(n) % 5 == 4, 0.0, g).astype(dtype)


def parameters(dtype):
    return [torch.nn.Parameter(torch.linspace(-1, 1, n, dtype=dtype)) for n in LENGTHS]


def stepped(opt, steps=4):
    for t in range(steps):
        for p in opt.param_groups[0]["params"]:
            p.grad = torch.from_numpy(gradient(p.numel(), t)).to(p.dtype)
        opt.step()
    return opt.param_groups[0]["params"]


def by_oracle(opt, n, dtype, steps=4):
    """The same by NumPy: the share is counted first, then the rule is run with its inverse."""
    hyper = opt._checked_groups()[0]
    p = torch.linspace(-1, 1, n, dtype=dtype).numpy()
    held = [np.full_like(p, hyper.first(name)) for name in hyper.rule.buffers]
    for t in range(steps):
        g = gradient(n, t).astype(p.dtype)
        agree = hyper.rule.measure.of(hyper.at(t + 1.0, p.dtype.name), p, g, *held)
        scale = 1 / max(float(agree.mean()), LEAST_SHARE)
        p, *held = oracle.step(hyper, t + 1, p, g, *held, update_scale=scale)
    return p


@native
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", CASES)
def test_the_kernel_gives_what_numpy_gives(options, dtype):
    opt = RMSProp(parameters(dtype), cautious=True, **options)
    for p in stepped(opt):
        assert p.detach().numpy().tobytes() == by_oracle(opt, p.numel(), dtype).tobytes()


@native
def test_the_number_of_threads_changes_no_bit():
    paths = []
    before = torch.get_num_threads()
    for threads in (1, 3):
        torch.set_num_threads(threads)
        opt = RMSProp(parameters(torch.float32), cautious=True, momentum=0.9)
        paths.append(torch.cat([p.detach() for p in stepped(opt)]))
    torch.set_num_threads(before)
    assert torch.equal(*paths)


def test_weights_that_would_go_up_rest_and_the_others_go_further():
    p = torch.nn.Parameter(torch.zeros(4))
    opt = RMSProp([p], lr=1.0, momentum=0.9, eps=0.0, cautious=True)
    p.grad = torch.tensor([1.0, 1.0, 1.0, 1.0])
    opt.step()
    before = p.detach().clone()
    p.grad = torch.tensor([1.0, 1.0, 1.0, -1e-3])  # momentum goes on against the last one
    opt.step()
    moved = before - p.detach()
    b = opt.state[p]["momentum_buffer"]
    assert moved[3] == 0
    assert torch.allclose(moved[:3], b[:3] * 4 / 3, rtol=1e-6)  # rounding


def test_without_momentum_it_changes_nothing():
    plain, cautious = (
        stepped(RMSProp(parameters(torch.float32), cautious=on)) for on in (False, True)
    )
    assert all(torch.equal(p, q) for p, q in zip(plain, cautious, strict=True))


def test_nothing_agrees_and_nothing_moves():
    p = torch.nn.Parameter(torch.ones(3))
    opt = RMSProp([p], momentum=0.9, cautious=True)
    p.grad = torch.zeros(3)
    opt.step()
    assert torch.equal(p.detach(), torch.ones(3))


def test_nan_stays_in_its_own_weight():
    p = torch.nn.Parameter(torch.zeros(3))
    opt = RMSProp([p], momentum=0.9, cautious=True)
    p.grad = torch.tensor([1.0, float("nan"), -1.0])
    opt.step()
    assert p.isnan().tolist() == [False, True, False]
    assert p[0] < 0 < p[2]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.complex64])
def test_torch_operations_and_kernel_agree(dtype, monkeypatch):
    def run():
        start = torch.linspace(-1, 1, 1000).to(dtype)
        p = torch.nn.Parameter(start * (1 + 1j) if dtype.is_complex else start)
        opt = RMSProp([p], momentum=0.9, centered=True, cautious=True)
        for t in range(4):
            p.grad = torch.from_numpy(gradient(1000, t)).to(dtype)
            opt.step()
        return p.detach()

    fused = run()
    monkeypatch.setattr(cpu, "native", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that steps run through torch operations
        warn_without_compiler.cache_clear()
        slow = run()
    # torch's sqrt is not correctly rounded, and a step that is nearly zero may change its sign.
    apart = (torch.view_as_real(fused - slow) if dtype.is_complex else (fused - slow).float()).abs()
    assert (apart > 2e-2).double().mean() < 0.01


@native
def test_where_it_cannot_be_compiled_torch_operations_step_it(monkeypatch, tmp_path):
    monkeypatch.setitem(os.environ, "CXX", str(tmp_path / "none"))
    monkeypatch.setitem(os.environ, "MEANSQUARE_CACHE", str(tmp_path))
    compiled._compile.cache_clear()
    p = torch.nn.Parameter(torch.ones(3))
    # A Spec that no other test has: what was compiled once stays in the process.
    own = {"centered": True, "nesterov": True, "eps_place": "max", "lr_in_momentum": True}
    opt = RMSProp([p], momentum=0.9, cautious=True, **own)
    p.grad = torch.tensor([1.0, -1.0, 2.0])
    with pytest.warns(RuntimeWarning, match="no C\\+\\+ compiler was found"):
        opt.step()
    assert (p < 1).tolist() == [True, False, True]
    compiled._compile.cache_clear()


@native
@pytest.mark.parametrize("first", [{"momentum": 0.9}, {"cautious": True}])
def test_switched_on_where_it_cannot_be_compiled_it_is_cautious_all_the_same(
    first, monkeypatch, tmp_path
):
    monkeypatch.setitem(os.environ, "CXX", str(tmp_path / "none"))
    monkeypatch.setitem(os.environ, "MEANSQUARE_CACHE", str(tmp_path))
    compiled._compile.cache_clear()
    p = torch.nn.Parameter(torch.ones(3))
    opt = RMSProp([p], eps_place="max", centered=True, nesterov=True, lr_in_momentum=True, **first)
    p.grad = torch.tensor([1.0, -1.0, 2.0])
    opt.step()
    opt.param_groups[0] |= {"momentum": 0.9, "cautious": True}
    before = p.detach().clone()
    p.grad = torch.tensor([-1e-6, 1.0, -2.0])
    with pytest.warns(RuntimeWarning, match="no C\\+\\+ compiler was found"):
        opt.step()
    assert opt.state[p]["momentum_buffer"] is not None
    assert ((before - p.detach()) * p.grad >= 0).all()
    compiled._compile.cache_clear()


@native
def test_the_share_counts_for_no_less_than_a_thousandth():
    p = torch.nn.Parameter(torch.zeros(20_000, dtype=torch.float64))
    opt = RMSProp([p], lr=1.0, momentum=0.5, cautious=True, alpha=0.0, eps=0.0)
    p.grad = torch.ones_like(p)
    opt.step()
    before = p.detach().clone()
    p.grad = -0.1 * torch.ones_like(p)  # b = .5*1 - 1 agrees in every weight ...
    p.grad[1:] = 0.0  # ... and here the gradient is nothing
    opt.step()
    assert (p.detach() - before).nonzero().tolist() == [[0]]
    assert p[0] - before[0] == 0.5 * 1000


def test_it_cannot_be_combined_with_another_scale():
    with pytest.raises(ValueError, match="max_update_rms must be None where cautious is True"):
        RMSProp([torch.ones(1)], cautious=True, max_update_rms=1.0, momentum=0.9)
