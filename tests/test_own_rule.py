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
from snapshot import contents
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


OURS = [Debiased, Everything, Plain, Lion]


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
    (library,) = folder.iterdir()
    monkeypatch.setenv("CXX", f"{compiled._compiler()[0]}")
    before = library.stat().st_mtime_ns
    cache()
    opt, _ = one_step(Plain)
    assert kernels_of(opt) == {"cpu"}
    assert [library.stat().st_mtime_ns, stat.S_IMODE(folder.stat().st_mode)] == [before, 0o700]


@needs_kernels
def test_a_damaged_library_in_the_cache_is_made_anew(cache, one_step):
    folder = cache()
    one_step(Plain)
    (library,) = folder.iterdir()
    library.unlink()  # a loaded library whose very file is cut ends the process
    library.write_bytes(b"no library")
    cache()
    opt, _ = one_step(Plain)
    assert kernels_of(opt) == {"cpu"}
    assert library.stat().st_size > 1000


@needs_kernels
def test_a_cache_that_others_can_write_is_not_used(cache, one_step):
    folder = cache()
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.warns(RuntimeWarning, match="others can write to .*; set MEANSQUARE_CACHE"):
        opt, _ = one_step(Plain)
    assert kernels_of(opt) == {"reference"}


def number(h, p, g):
    return p


def no_gradient(h, p, v):
    return p


def too_many(h, p, g, a, b, c, d):
    return p, a, b, c, d


def a_step(h, p, g, step):
    return p, step


REFUSED = {
    "no lr": (number, {"beta": 0.9}, "number: a rule needs lr among its settings, got .'beta'."),
    "negative lr": (number, {"lr": -1.0}, "number: lr must be finite and >= 0, got -1.0"),
    "a word": (number, {"lr": 1.0, "beta": "much"}, "beta must be a number, got 'much'"),
    "not finite": (number, {"lr": 1.0, "beta": float("nan")}, "beta must be finite, got nan"),
    "a taken name": (number, {"lr": 1.0, "seed": 1.0}, "'seed' has a meaning of its own; rename"),
    "other arguments": (no_gradient, {"lr": 1.0}, r"takes h, p, g and its buffers, got \(h, p, v"),
    "four buffers": (too_many, {"lr": 1.0}, "too_many: a rule has at most 3 buffers, got 4"),
    "a step": (a_step, {"lr": 1.0}, "'step' is the count of steps in the state; rename"),
}


@pytest.mark.parametrize(("function", "settings", "message"), REFUSED.values(), ids=REFUSED)
def test_a_rule_of_another_form_is_refused(function, settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        optimizer(**settings)(function)


def test_a_rule_that_returns_another_number_of_values_is_refused_and_changes_nothing():
    p = nn.Parameter(torch.ones(4))
    p.grad = torch.ones(4)
    opt = optimizer(lr=0.1)(lambda h, p, g, m: p)([p])
    before = contents(opt)[0][:1]
    with pytest.warns(RuntimeWarning), pytest.raises(TypeError, match=r"writes \(p, m\), got 1"):
        opt.step()
    assert contents(opt)[0][:1] == before


WRONG = {
    "beta": (float("inf"), "Debiased: beta must be finite, got inf"),
    "lr": (-1.0, "Debiased: lr must be finite and >= 0, got -1.0"),
    "gamma": (0.1, "Debiased: got an unexpected keyword argument 'gamma'"),
    "clip_value": (0.0, "Debiased: clip_value must be finite and > 0, got 0.0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_settings_are_refused_in_one_line(name):
    value, message = WRONG[name]
    with pytest.raises((TypeError, ValueError), match=message):
        Debiased([nn.Parameter(torch.ones(1))], **{name: value})


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
    few = ("--tasks", "digits", "--budget", 1, "--seeds", 1, "--epochs", 1, "--jobs", 1)
    done = meansquare("compare", "--out", tmp_path / "run", "--optimizers", names, *few)
    assert done.returncode == 0, done.stderr
    assert "Lion" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("name", ["nowhere.py:Lion", f"{EXAMPLE}:Tiger", "no.such.module:Lion"])
def test_the_lab_refuses_what_it_cannot_import_and_writes_nothing(name, tmp_path):
    done = meansquare("compare", "--optimizers", name, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("meansquare compare: --optimizers: ")
    assert [*tmp_path.iterdir()] == []
