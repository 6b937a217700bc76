"""Which backend steps what, that all give one result, and that `explain` says the truth."""

import warnings

import pytest
import torch
from torch import nn
from twins import SHAPES, distance, gradient_of, layouts, parameters, set_gradients, walk

from meansquare import RMSProp, backends
from meansquare.kernels import cpu, warn_without_compiler

needs_compiler = pytest.mark.skipif(cpu.native is None, reason=f"C++ kernels {cpu.detail}")
# torch's sqrt on a CPU is not correctly rounded, and differs between its vector and scalar loops.
REFERENCE = 2e-6

OPTIONS = {
    "plain": {},
    "momentum": {"momentum": 0.9, "weight_decay": 0.1},
    "maximize": {"maximize": True, "eps_place": "inside"},
    "nesterov": {
        "momentum": 0.9,
        "nesterov": True,
        "lr_in_momentum": True,
        "bias_correction": True,
    },
    "decoupled": {"weight_decay": 0.1, "weight_decay_mode": "decoupled", "eps_place": "max"},
}


@pytest.fixture
def without_compiler(monkeypatch):
    monkeypatch.setattr(cpu, "native", None)
    monkeypatch.setattr(cpu, "detail", "not compiled (no compiler)")
    warn_without_compiler.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield
    warn_without_compiler.cache_clear()


def stepped(params, options, steps=10):
    opt = RMSProp(params, lr=1e-3, **options)
    walk((opt,), steps)
    return opt


def by_reference(params, options, monkeypatch, steps=10):
    with monkeypatch.context() as patch, warnings.catch_warnings():
        patch.setattr(cpu, "native", None)
        warnings.simplefilter("ignore", RuntimeWarning)
        return stepped(params, options, steps)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64, torch.float64], ids=str)
@pytest.mark.parametrize(
    "options", [*OPTIONS.values(), {"centered": True}], ids=[*OPTIONS, "centered"]
)
def test_reference_and_kernels_agree(options, dtype, monkeypatch):
    fused = stepped(layouts(dtype), options)
    slow = by_reference(layouts(dtype), options, monkeypatch)
    # Centered, v - m*m loses digits before its root is taken.
    bound = REFERENCE * (10 if "centered" in options else 1)
    assert distance(parameters(fused), parameters(slow)) <= bound
    for ours, theirs in zip(fused.state.values(), slow.state.values(), strict=True):
        assert distance([ours["square_avg"]], [theirs["square_avg"]]) <= REFERENCE
        assert ours.keys() == theirs.keys()


def powers_of_two(p, seed):
    """Gradients whose square and root are exact, so that both backends round the same number."""
    source = torch.Generator().manual_seed(seed)
    return 2.0 ** torch.randint(-8, 8, p.shape, generator=source)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("layout", SHAPES)
def test_reference_and_kernels_draw_the_same_bits(layout, dtype, monkeypatch):
    def train():
        start = dict(zip(SHAPES, layouts(), strict=True))[layout].detach()
        p = nn.Parameter(torch.empty_strided(start.shape, start.stride(), dtype=dtype).copy_(start))
        opt = RMSProp([nn.Parameter(torch.ones(2)), p], lr=1e-3, alpha=0, seed=11)
        for seed in range(5):
            p.grad = powers_of_two(p, seed).to(dtype)
            opt.step()
        return p

    fused = train()
    monkeypatch.setattr(cpu, "native", None)
    assert torch.equal(fused, train())


def test_another_seed_draws_other_bits():
    first, second, again = (
        stepped([nn.Parameter(torch.ones(1000).bfloat16())], {"seed": seed}) for seed in (1, 2, 1)
    )
    assert torch.equal(*parameters(first), *parameters(again))
    assert not torch.equal(*parameters(first), *parameters(second))


def said(opt, capsys):
    opt.explain()
    return capsys.readouterr().out.splitlines()


@needs_compiler
def test_explain_says_that_all_is_fused(capsys):
    opt = RMSProp([{"params": layouts()}, {"params": layouts(torch.float64), "momentum": 0.9}])
    momentum = "rmsprop_outside_heavy_ball"
    for steps in (0, 2):
        walk((opt,), steps)
        size = [
            sum(v.nbytes for p in g["params"] for v in opt.state.get(p, {}).values())
            for g in opt.param_groups
        ]
        assert said(opt, capsys) == [
            f"group 0: rmsprop_outside, 10 tensors of float32, {size[0]:,} bytes of state",
            f"  cpu: 10 tensors of float32, {size[0]:,} bytes of state",
            f"group 1: {momentum}, 10 tensors of float64, {size[1]:,} bytes of state",
            f"  cpu: 10 tensors of float64, {size[1]:,} bytes of state",
        ]


class Subclassed(nn.Parameter):
    pass


def plain():
    return nn.Parameter(torch.ones(4))


def subclass():
    return RMSProp([Subclassed(torch.ones(4)), plain()])


def lazy_gradient():
    opt = RMSProp([plain(), plain()])
    walk((opt,), 1)
    opt.param_groups[0]["params"][1].grad = torch.complex(torch.ones(4), torch.ones(4)).conj().imag
    opt.step()
    return opt


def declined_layout():
    buffer = torch.arange(1.0, 6.0)
    opt = RMSProp([p := nn.Parameter(buffer[:4]), plain()])
    set_gradients(0, parameters(opt))
    p.grad = buffer[1:]
    opt.step()
    return opt


def unaligned():
    memory = bytearray(4 * 4 + 1)
    opt = RMSProp([nn.Parameter(torch.frombuffer(memory, dtype=torch.float32, offset=1)), plain()])
    walk((opt,), 1)
    return opt


def shared_with_a_slow_row():
    buffer = torch.ones(8)
    opt = RMSProp([Subclassed(buffer[:4]), nn.Parameter(buffer[2:6]), plain()])
    walk((opt,), 1)
    return opt


def differentiable_group():
    return RMSProp([{"params": [torch.ones(4)], "differentiable": True}, {"params": [plain()]}])


FALLS_BACK = {
    subclass: "parameter is a Subclassed, a subclass of Tensor",
    lazy_gradient: "gradient is a lazy negative or conjugate view",
    declined_layout: "lies where the C++ kernel cannot step it",
    unaligned: "parameter is not aligned in memory",
    shared_with_a_slow_row: "shares memory with a tensor that is stepped by reference",
    differentiable_group: "differentiable=True: autograd follows the step",
}


@needs_compiler
@pytest.mark.parametrize("make", FALLS_BACK, ids=lambda make: make.__name__)
def test_explain_says_what_falls_back_and_why(make, capsys):
    text = said(make(), capsys)
    assert any(
        "  reference: 1 tensors of float32" in line and FALLS_BACK[make] in line for line in text
    )
    assert any(line.startswith("  cpu: 1 tensors of float32") and "(" not in line for line in text)


@needs_compiler
def test_a_tensor_that_fell_back_is_fused_again_when_it_can_be(capsys):
    opt = lazy_gradient()
    set_gradients(0, parameters(opt))
    opt.step()
    assert [line.split(":")[0] for line in said(opt, capsys)] == ["group 0", "  cpu"]


@needs_compiler
def test_differentiable_may_be_switched_in_mid_run(capsys):
    opt = RMSProp([torch.ones(4)])
    for on, backend in ((False, "cpu"), (True, "reference"), (False, "cpu")):
        opt.param_groups[0]["differentiable"] = on
        walk((opt,), 1)
        assert said(opt, capsys)[1].startswith(f"  {backend}: 1 tensors")


def test_explain_speaks_of_a_parameter_put_in_place_of_another(capsys):
    opt = RMSProp([plain()])
    walk((opt,), 1)
    opt.param_groups[0]["params"][0] = Subclassed(torch.ones(5).bfloat16())
    assert said(opt, capsys)[1].startswith("  reference: 1 tensors of bfloat16, 0 bytes of state")


def test_without_a_compiler_explain_says_so(without_compiler, capsys):
    opt = RMSProp([plain()])
    walk((opt,), 2)
    assert said(opt, capsys)[1].endswith("(C++ kernels not compiled (no compiler))")
    assert [backend.live for backend in backends() if backend.name == "cpu"] == [False]


def test_without_a_compiler_one_warning_comes_in_a_process(without_compiler):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            RMSProp([plain()])
    (warning,) = caught
    assert warning.category is RuntimeWarning
    assert str(warning.message).startswith("meansquare: C++ kernels not compiled")
    assert warning.filename == __file__


def test_every_dtype_and_layout_steps_without_a_compiler(without_compiler):
    half = [
        nn.Parameter(p.detach().to(d)) for d in (torch.bfloat16, torch.float16) for p in layouts()
    ]
    opt = stepped(
        [*layouts(), *layouts(torch.complex128), *half], {"momentum": 0.9, "centered": True}
    )
    assert all(p.isfinite().all() for p in parameters(opt))
    assert {float(s["step"]) for s in opt.state.values()} == {10.0}


class Wrapped(torch.Tensor):
    """A subclass that torch operations go through."""


def test_subclasses_are_stepped_whenever_they_get_a_gradient():
    p, q = nn.Parameter(torch.ones(4)), torch.ones(4).as_subclass(Wrapped).requires_grad_()
    opt, same = RMSProp([p]), RMSProp([q])
    same.step()
    for t in range(3):
        set_gradients(t, [p])
        q.grad = gradient_of(p).clone().as_subclass(Wrapped)
        for own in (opt, same):
            own.param_groups[0]["momentum"] = 0.9 * t
            own.step()
    assert distance([p], [q.detach().as_subclass(torch.Tensor)]) <= REFERENCE
