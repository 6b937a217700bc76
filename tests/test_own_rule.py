"""A rule of a user's own is an optimizer, through torch at once and through a kernel of its own."""

import copy
import pickle
import runpy
import stat
from pathlib import Path

import numpy as np
import oracle
import pytest
import torch
from conftest import meansquare
from torch import nn
from twins import distance, kernels_of, layouts, parameters, walk

from meansquare import RMSProp, optimizer
from meansquare.kernels import compiled, cpu
from meansquare.rules import at_least, at_most, choose, sign, sqrt, square

EXAMPLE = Path(__file__).parents[1] / "examples" / "lion.py"
Lion = runpy.run_path(str(EXAMPLE))["Lion"]

needs_kernels = pytest.mark.skipif(cpu.native is None, reason=f"C++ kernels {cpu.detail}")


@optimizer(lr=0.01, beta=0.9, eps=1e-8)
def Debiased(h, p, g, v=0.0):  # noqa: N802
    v = h.beta * v + (1 - h.beta) * square(g)
    return p - h.lr * g / (sqrt(v / (1 - h.beta**h.t)) + h.eps), v


@optimizer(lr=0.1, most=2.0)
def Everything(h, p, g, a=1.0, b=-2.0, c=0.5):  # noqa: N802
    a = at_most(at_least(a + abs(g), 0.1), h.most)
    b = choose(h.t > 1, b * 0.5, 2 - b)
    c = choose(g < -c, 1.0, -c) / a
    return p - h.lr * sign(g) * sqrt(a) / (1 + square(b, 0.1)), a, b, c


@optimizer(lr=0.5)
def Plain(h, p, g):  # noqa: N802
    return p - h.lr * g


@optimizer(lr=0.1, mu=0.5)
def Previous(h, p, g, old):  # noqa: N802
    return p - h.lr * g + h.mu * (p - old), p


@optimizer(lr=0.1)
def Shifted(h, p, g, a, b, c=2.0):  # noqa: N802
    return p - h.lr * b * abs(h.lr - 1) * 0.9**h.t, g, a, h.t


OURS = [Debiased, Everything, Plain, Lion, Previous, Shifted]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
@needs_kernels
def test_its_kernel_gives_the_bits_of_the_function_run_by_numpy(kind, dtype):
    p = torch.randn(1003, dtype=dtype, generator=torch.Generator().manual_seed(0))
    opt = kind([p], clip_value=1.5)
    hyper = kind._kind.checked(opt.param_groups[0], "")
    want = [p.numpy().copy(), *(np.full_like(p, hyper.first(b)) for b in hyper.rule.buffers)]
    for t in (1, 2, 3):
        p.grad = torch.randn(1003, dtype=dtype, generator=torch.Generator().manual_seed(t))
        want = oracle.step(hyper, t, want[0], p.grad.numpy(), *want[1:])
        opt.step()
    ours = [p, *(opt.state[p][name] for name in hyper.rule.buffers)]
    assert kernels_of(opt) == {"cpu"}
    assert all(np.array_equal(a.numpy(), b) for a, b in zip(ours, want, strict=True))


def test_debiased_rmsprop_written_anew_is_rmsprops_own():
    opts = Debiased(layouts()), RMSProp(layouts(), alpha=0.9, bias_correction=True)
    walk(opts, 50)
    # Rounding: a division here where RMSProp multiplies by the inverse.
    assert distance(*map(parameters, opts)) <= 1e-5


def published(p, g, m, lr, decay):
    """Algorithm 2 of the paper, one step in double precision."""
    p = p * (1 - lr * decay) - lr * np.sign(0.9 * m + 0.1 * g)
    return p, 0.99 * m + 0.01 * g


def test_lion_follows_the_published_algorithm():
    p = torch.randn(100, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    want, m, opt = p.numpy().copy(), np.zeros(100), Lion([p], lr=0.1, weight_decay=0.01)
    for t in range(20):
        p.grad = torch.randn(100, dtype=torch.float64, generator=torch.Generator().manual_seed(t))
        want, m = published(want, p.grad.numpy(), m, 0.1, 0.01)
        opt.step()
    np.testing.assert_allclose(p.numpy(), want, rtol=1e-14)  # the decay is folded into one factor


@pytest.fixture
def one_step():
    """An optimizer of one parameter after a step, and what it is."""

    def take(kind, **options):
        p = nn.Parameter(torch.ones(4))
        p.grad = torch.ones(4)
        opt = kind([p], **options)
        opt.step()
        return opt, p

    return take


def unprintable():
    @optimizer(lr=0.1)
    def Cosine(h, p, g):  # noqa: N802
        return p - h.lr * torch.cos(g)

    return Cosine


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_torch_operations_give_what_the_kernel_gives(kind):
    pair = [own(torch.linspace(-1, 1, 9)) for own in (nn.Parameter, Subclassed)]
    opts = [kind([p], max_grad_norm=0.5) for p in pair]
    walk(opts, 4)
    kernel, reference = (opt.state[p] for opt, p in zip(opts, pair, strict=True))
    # 1e-6: torch's sqrt is not correctly rounded.
    for name in ("step", *kind._kind.STATE):
        assert torch.allclose(kernel[name], reference[name], rtol=1e-6)
    assert torch.allclose(*pair, rtol=1e-6)


class Subclassed(nn.Parameter):
    """Stepped by torch operations."""


@needs_kernels
def test_a_rule_that_cannot_be_printed_is_stepped_by_torch_and_says_why(one_step, capsys):
    with pytest.warns(RuntimeWarning, match=r"own_Cosine_.*printed as C.*\(TypeError"):
        opt, p = one_step(unprintable())
    assert torch.equal(p.detach(), 1 - 0.1 * torch.cos(torch.ones(4)))
    opt.explain()
    assert "reference: 1 tensors" in (out := capsys.readouterr().out)
    assert "its rule is not compiled: it does what cannot be printed as C++" in out


@needs_kernels
def test_without_a_compiler_it_says_what_to_install(one_step, monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "no-such-compiler -v")
    monkeypatch.setenv("MEANSQUARE_CACHE", str(tmp_path))
    compiled._compile.cache_clear()
    monkeypatch.setattr(cpu, "native", Without(cpu.native))
    with pytest.warns(RuntimeWarning, match=r"no C\+\+ compiler was found \(no-such-compiler -v\)"):
        opt, _ = one_step(Plain)
    assert kernels_of(opt) == {"reference"}
    compiled._compile.cache_clear()


@needs_kernels
def test_without_a_kernel_the_norm_is_limited_all_the_same(cache, one_step, monkeypatch):
    cache()
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.warns(RuntimeWarning):
        _, p = one_step(Plain, max_grad_norm=1.0)
    assert torch.allclose(p.detach(), torch.full((4,), 0.75))  # 1 - 0.5 * 1/2


def test_comparisons_that_cannot_be_printed_are_not_taken_for_others(one_step):
    @optimizer(lr=0.1)
    def AtFirst(h, p, g):  # noqa: N802
        return p - (10 if h.t == 1 else 1) * h.lr * g

    with pytest.warns(RuntimeWarning, match="can neither branch on an element or a number nor"):
        _, p = one_step(AtFirst)
    assert torch.equal(p.detach(), torch.zeros(4))


class Without:
    """The extension, without any rule that was loaded into it before."""

    def __init__(self, native):
        self._native, self._loaded = native, set()

    def __getattr__(self, name):
        return getattr(self._native, name)

    def has_rule(self, key):
        return key in self._loaded if key.startswith("own_") else self._native.has_rule(key)

    def load_rule(self, key, path):
        wrong = self._native.load_rule(key, path)
        self._loaded |= set() if wrong else {key}
        return wrong


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache, and an extension that has loaded nothing."""
    monkeypatch.setenv("MEANSQUARE_CACHE", str(tmp_path / "cache"))

    def anew():
        compiled._compile.cache_clear()
        monkeypatch.setattr(cpu, "native", Without(getattr(cpu.native, "_native", cpu.native)))
        return tmp_path / "cache"

    yield anew
    compiled._compile.cache_clear()


@needs_kernels
def test_a_compiled_rule_is_found_again_without_a_compiler(cache, one_step, monkeypatch):
    folder = cache()
    one_step(Plain)
    (library,) = folder.glob("*.so")
    monkeypatch.setenv("CXX", "no-such-compiler")
    before = library.stat().st_mtime_ns
    cache()
    opt, _ = one_step(Plain)
    assert kernels_of(opt) == {"cpu"}
    assert [library.stat().st_mtime_ns, stat.S_IMODE(folder.stat().st_mode)] == [before, 0o700]


@needs_kernels
def test_a_damaged_library_in_the_cache_is_made_anew(cache, one_step):
    folder = cache()
    one_step(Plain)
    (library,) = folder.glob("*.so")
    whole = library.read_bytes()
    library.unlink()  # a loaded library whose very file is cut ends the process
    library.write_bytes(whole[: len(whole) // 2])
    cache()
    opt, _ = one_step(Plain)
    assert kernels_of(opt) == {"cpu"}
    assert library.stat().st_size > len(whole) // 2


@needs_kernels
def test_a_cache_that_others_can_write_is_not_used(cache, one_step):
    folder = cache()
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.warns(RuntimeWarning, match="others can write to .*; set MEANSQUARE_CACHE"):
        opt, _ = one_step(Plain)
    assert kernels_of(opt) == {"reference"}


def test_its_state_goes_through_state_dict_pickle_and_deepcopy_to_the_bit():
    first, again = Debiased(layouts(), lr=0.1), Debiased(layouts(), lr=0.1)
    walk((first, again), 3)
    third = Debiased(copy.deepcopy(parameters(again)))
    third.load_state_dict(again.state_dict())
    fourth = pickle.loads(pickle.dumps(again))
    walk((first, third, fourth, copy.deepcopy(again)), 3, first=3)
    assert distance(parameters(third), parameters(first)) == 0
    assert distance(parameters(fourth), parameters(first)) == 0


def test_the_example_runs_and_learns(capsys):
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    losses = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()[:4]]
    assert losses[-1] < losses[0] / 10


def test_the_page_shows_the_example_as_it_is():
    page = (EXAMPLE.parents[1] / "docs" / "own-rule.md").read_text()
    shown = page.split("```python\n")[1].split("```")[0]
    lines = [line for line in shown.splitlines() if line.strip()]
    code = EXAMPLE.read_text().replace("  # noqa: N802", "").splitlines()
    assert [line for line in lines if line not in code] == []


def test_the_lab_takes_it_by_name(tmp_path):
    names = f"rmsprop,{EXAMPLE}:Lion"
    few = ("digits", "--budget", 1, "--seeds", 1, "--epochs", 1, "--jobs", 1)
    done = meansquare("compare", "--out", tmp_path / "run", "--optimizers", names, *few)
    assert done.returncode == 0, done.stderr
    assert "Lion" in (tmp_path / "run" / "report.html").read_text()
