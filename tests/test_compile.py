"""torch.compile takes a whole training step, and compiles it once."""

import gc

import pytest
import torch
import torch._dynamo
from graphs import QUIET, anew, batches, check_against_eager, graphs, same_state, training
from hypothesis import given, settings
from hypothesis import strategies as st
from members import MEMBERS, words
from torch import nn
from torch._dynamo.utils import counters
from torch.optim.lr_scheduler import CosineAnnealingLR

from meansquare import SGD, Adam, RMSProp
from meansquare.kernels import operator

__all__ = ["anew"]
pytestmark = QUIET


def test_a_training_step_breaks_at_backward_alone_and_is_not_compiled_again_for_its_settings():
    eager, model, opt = training(momentum=0.9, weight_decay=0.1)
    step, twin, other = training(momentum=0.9, weight_decay=0.1)
    compiled = torch.compile(step, backend="aot_eager")  # whose gradients are torch's own
    for t, x in enumerate(batches(6)):
        for group in (opt.param_groups[0], other.param_groups[0]):
            group |= {"lr": 0.1 / (t + 1), "alpha": 0.9 - t / 10, "momentum": 0.8 - t / 10}
            group |= {"eps": 1e-8 * t, "weight_decay": 0.1 * t, "bias_correction": t % 2 == 0}
        eager(x)
        compiled(x)
        assert all(map(torch.equal, model.parameters(), twin.parameters()))
    assert same_state(other, opt)
    assert graphs() == (2, 1)
    assert "backward" in next(iter(counters["graph_break"]))


def test_a_scheduler_compiles_nothing_again():
    step, _, opt = training(lr=0.1)
    scheduler = CosineAnnealingLR(opt, 10)
    compiled = torch.compile(step)
    for x in batches(6):
        compiled(x)
        scheduler.step()
    assert graphs() == (2, 1)
    assert opt.param_groups[0]["lr"] < 0.1


LIMITS = {"max_grad_norm": 0.1}
KINDS = [
    *((m.kind, m.options, torch.float32) for m in MEMBERS[::9]),
    (RMSProp, {"momentum": 0.9, "centered": True}, torch.bfloat16),
    (RMSProp, {"momentum": 0.9, "seed": 2**62 + 1}, torch.float16),
    (RMSProp, {"momentum": 0.9, "cautious": True}, torch.float32),
    (RMSProp, {"max_update_rms": 0.1, **LIMITS}, torch.float64),
    (Adam, {"amsgrad": True, **LIMITS}, torch.float32),
]


@pytest.mark.parametrize(
    ("kind", "options", "dtype"), KINDS, ids=lambda x: words(RMSProp, x) if type(x) is dict else x
)
def test_a_compiled_step_is_the_step_bit_for_bit(kind, options, dtype):
    check_against_eager(kind, options, dtype)
    assert graphs() == (1, 0)


@pytest.mark.parametrize(
    "momenta", [[0.9, 0.0, 0.0, 0.5], [0.0, 0.0, 0.9, 0.5]], ids=["frozen", "made late"]
)
def test_momentum_may_come_and_go(momenta):
    def change(t, opt):
        opt.param_groups[1]["momentum"] = momenta[t]

    check_against_eager(RMSProp, {"momentum": momenta[0]}, change=change)


def test_state_that_was_loaded_is_stepped():
    def change(t, opt):
        if t == 2:
            kept = opt.state_dict()
            kept["state"][0]["square_avg"] = torch.full((5, 3), 3.0)
            opt.load_state_dict(kept)
        if t == 3:
            opt.state[opt._parameters()[1]]["square_avg"] = torch.full((7,), 5.0)

    check_against_eager(RMSProp, {}, change=change)


def test_parameters_may_be_added_and_lack_gradients():
    added = {}

    def change(t, opt):
        if t == 2:
            opt.add_param_group({"params": [nn.Parameter(torch.ones(3))], "lr": 0.1})

    check_against_eager(RMSProp, {}, change=change)
    p, q = (nn.Parameter(torch.ones(3)) for _ in range(2))
    opt = RMSProp([p, q])
    compiled = torch.compile(opt.step)
    for t, held in enumerate(([p], [p, q], [q])):
        p.grad = q.grad = None
        for x in held:
            x.grad = torch.ones(3)
        compiled()
        added[t] = [float(opt.state[x]["step"]) if x in opt.state else 0.0 for x in (p, q)]
    assert added == {0: [1, 0], 1: [2, 1], 2: [2, 2]}


def test_what_no_graph_can_hold_is_stepped_between_graphs():
    check_against_eager(RMSProp, {}, torch.complex64)
    memory, twin = torch.ones(6), torch.ones(6)
    for held, compiled in ((memory, True), (twin, False)):  # views that share two elements
        opt = RMSProp([held[:4], held[2:]])
        for p in opt._parameters():
            p.grad = torch.arange(4.0)
        (torch.compile(opt.step) if compiled else opt.step)()
    assert torch.equal(memory, twin)


def test_a_hook_added_later_is_called():
    p = nn.Parameter(torch.ones(2))
    opt, seen = RMSProp([p]), []
    compiled = torch.compile(opt.step)
    p.grad = torch.ones(2)
    compiled()
    opt.register_step_post_hook(lambda *_: seen.append(1))
    compiled()
    assert (seen, opt.state[p]["step"].item()) == ([1], 2)


def test_a_closure_is_compiled_with_the_step():
    (_, model, opt), (_, twin, other) = training(), training()
    x = torch.ones(2, 4)

    def closure():
        loss = twin(x).square().sum()
        torch.autograd.backward(loss, inputs=list(twin.parameters()))
        return loss

    loss = torch.compile(other.step)(closure)
    wanted = model(x).square().sum()
    wanted.backward()
    opt.step()
    assert torch.allclose(loss, wanted)
    assert all(map(torch.allclose, model.parameters(), twin.parameters()))


def rows(momentum):
    """What the operator takes of two parameters in two groups."""
    hypers = [RMSProp._kind(lr=0.1, momentum=momentum), RMSProp._kind(lr=0.2, alpha=0.5)]
    params, gradients = ([torch.randn(3), torch.randn(2, 2)] for _ in range(2))
    first, second = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    state = [first, torch.rand(3), torch.zeros(3), second, torch.rand(2, 2)]
    names = "step,square_avg,momentum_buffer,step,square_avg"
    return params, gradients, state, names, [0, 2], [1, 2], operator.write(hypers), 0


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_torch_finds_the_operators_well_formed(momentum):
    torch.library.opcheck(torch.ops.meansquare.step.default, rows(momentum))
    rate = torch.tensor(0.1)
    _, _, opt = training(lr=rate)
    opt._traced.prepare(opt)
    torch.library.opcheck(torch.ops.meansquare.settings.default, (opt._traced.number, 1, [rate]))


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(MEMBERS),
    st.floats(0, 1e3),
    st.integers(0, 2**63 - 1),
    st.none() | st.floats(1e-3, 1e3),
)
def test_settings_survive_as_numbers(member, lr, seed, norm):
    hyper = member.hyper(lr=lr, seed=seed, max_grad_norm=norm)
    (back,) = operator.read(operator.write([hyper]))
    for name in ("rule", "lr", "seed", "max_grad_norm", "max_update", "norm_eps"):
        assert getattr(back, name) == getattr(hyper, name)
    for precision in ("float32", "float64"):
        assert list(back.numbers(precision).items()) == list(hyper.numbers(precision).items())


def test_a_compiled_optimizer_is_freed():
    step, model, opt = training(SGD, momentum=0.9)
    torch.compile(step)(torch.ones(2, 4))
    number = opt._traced.number
    assert number in operator.OPTIMIZERS
    del step, model, opt
    torch._dynamo.reset()
    gc.collect()
    assert number not in operator.OPTIMIZERS
