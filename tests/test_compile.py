"""torch.compile takes a whole training step, and compiles it once."""

import copy
import gc

import pytest
import torch
import torch._dynamo
from hypothesis import given, settings
from hypothesis import strategies as st
from members import MEMBERS, words
from torch import nn
from torch._dynamo.utils import counters
from torch.optim.lr_scheduler import CosineAnnealingLR
from twins import layers

from meansquare import SGD, Adam, RMSProp
from meansquare.kernels import operator

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of torch's own compiler
    pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning"),
]


@pytest.fixture(autouse=True)
def _anew():
    torch._dynamo.reset()
    counters.clear()


def graphs():
    """How many graphs were compiled, and how many breaks there are between them."""
    return counters["stats"].get("unique_graphs", 0), sum(counters["graph_break"].values())


def training(kind=RMSProp, **options):
    """A training step of a small model, and its model and optimizer."""
    model = layers()
    opt = kind(model.parameters(), **options)

    def step(x):
        opt.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        opt.step()
        return loss

    return step, model, opt


def batches(count):
    source = torch.Generator().manual_seed(0)
    return [torch.randn(8, 4, generator=source) for _ in range(count)]


def same_state(a, b):
    pairs = zip(a.state.values(), b.state.values(), strict=True)
    return all(torch.equal(s[name], t[name]) for s, t in pairs for name in t)


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


def with_gradients(kind, options, dtype=torch.float32, change=lambda t, opt: None, steps=4):
    """An optimizer whose step is compiled and its twin; both are stepped by the same gradients."""
    shapes, made = [(5, 3), (7,), (), (0, 2)], []
    for _ in range(2):
        source = torch.Generator().manual_seed(0)
        params = [nn.Parameter(torch.randn(s, generator=source).to(dtype)) for s in shapes]
        made.append(kind([{"params": params[:1]}, {"params": params[1:], "lr": 1e-3}], **options))
    ours, twin = made
    compiled = torch.compile(ours.step, fullgraph=not dtype.is_complex, backend="inductor")
    for t in range(steps):
        for opt in made:
            source = torch.Generator().manual_seed(1 + t)
            change(t, opt)
            for p in opt._parameters():
                p.grad = torch.randn(p.shape, generator=source).to(dtype)
        compiled()
        twin.step()
        assert all(map(torch.equal, ours._parameters(), twin._parameters()))
        assert same_state(ours, twin)
    return ours


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
    with_gradients(kind, options, dtype)
    assert graphs() == (1, 0)


@pytest.mark.parametrize(
    "momenta", [[0.9, 0.0, 0.0, 0.5], [0.0, 0.0, 0.9, 0.5]], ids=["frozen", "made late"]
)
def test_momentum_may_come_and_go(momenta):
    def change(t, opt):
        opt.param_groups[1]["momentum"] = momenta[t]

    with_gradients(RMSProp, {"momentum": momenta[0]}, change=change)


def test_state_that_was_loaded_is_stepped():
    def change(t, opt):
        if t == 2:
            kept = opt.state_dict()
            kept["state"][0]["square_avg"] = torch.full((5, 3), 3.0)
            opt.load_state_dict(kept)
        if t == 3:
            opt.state[opt._parameters()[1]]["square_avg"] = torch.full((7,), 5.0)

    with_gradients(RMSProp, {}, change=change)


def test_parameters_may_be_added_and_lack_gradients():
    added = {}

    def change(t, opt):
        if t == 2:
            opt.add_param_group({"params": [nn.Parameter(torch.ones(3))], "lr": 0.1})

    with_gradients(RMSProp, {}, change=change)
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
    with_gradients(RMSProp, {}, torch.complex64)
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
    _, _, opt = training()
    opt._traced.prepare(opt)
    rates = [torch.tensor(0.1)]
    torch.library.opcheck(torch.ops.meansquare.settings.default, (opt._traced.number, 1, rates))


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


def stepped_otherwise(change):
    """An optimizer that was changed by hand after its first compiled step, and its parameters."""
    p, q = (nn.Parameter(torch.ones(3)) for _ in range(2))
    opt = RMSProp([p, q])
    compiled = torch.compile(opt.step)
    p.grad = q.grad = torch.ones(3)
    compiled()
    before = p.detach().clone()
    change(opt)
    with pytest.raises(RuntimeError, match=r"RMSProp: parameters, state or how .* step again"):
        compiled()
    assert torch.equal(p, before)
    return opt, compiled, p


CHANGES = {
    "a parameter less": lambda opt: opt.param_groups[0]["params"].pop(),
    "no state": lambda opt: opt.state.clear(),
    "other state": lambda opt: opt.state.update({p: dict(s) for p, s in opt.state.items()}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_by_hand_is_refused_once(change):
    opt, compiled, p = stepped_otherwise(CHANGES[change])
    twin = copy.deepcopy(opt)
    (other, *_) = twin._parameters()
    for x in (*opt._parameters(), *twin._parameters()):
        x.grad = torch.ones(3)
    compiled()
    twin.step()
    assert torch.equal(p, other)
    assert same_state(opt, twin)


def test_autograd_may_be_asked_to_follow_later():
    _, compiled, _ = stepped_otherwise(lambda opt: opt.param_groups[0].update(differentiable=True))
    with pytest.raises(RuntimeError, match="differentiable=True cannot write a leaf"):
        compiled()


@pytest.mark.parametrize("backend", ["inductor", "aot_eager"])
@pytest.mark.parametrize("kind", [RMSProp, SGD])
def test_momentum_may_come_late_to_parameters_that_the_graph_writes_before(kind, backend):
    options = {"dampening": 0.5} if kind is SGD else {}
    made = []
    for _ in range(2):
        params = [nn.Parameter(torch.full((3,), 1.0 + i)) for i in range(2)]
        made.append((params, kind(params, lr=0.1, **options)))

    def step(params, opt):
        with torch.no_grad():
            for p in params:
                p.mul_(0.99)
        opt.step()

    compiled = torch.compile(step, backend=backend)
    for t, momentum in enumerate((0.0, 0.0, 0.9, 0.9, 0.0, 0.9)):
        for params, opt in made:
            opt.param_groups[0]["momentum"] = momentum
            for i, p in enumerate(params):
                p.grad = torch.full((3,), float(t + i))
        compiled(*made[0])
        step(*made[1])
        assert all(map(torch.equal, made[0][0], made[1][0])), t
        assert same_state(made[0][1], made[1][1])


@pytest.mark.parametrize("is_tensor", [False, True])
def test_settings_that_the_function_itself_writes_are_those_of_its_step(is_tensor):
    rates = [0.1, 0.05, 0.025, 0.0125]
    p, q = (nn.Parameter(torch.ones(3)) for _ in range(2))
    ours = RMSProp([p], lr=torch.tensor(0.2) if is_tensor else 0.2)
    twin = RMSProp([q], lr=0.2)

    @torch.compile
    def step(lr):
        for group in ours.param_groups:
            if is_tensor:
                group["lr"].mul_(0.5)
            else:
                group["lr"] = lr
        ours.step()

    for lr in rates:
        p.grad = q.grad = torch.ones(3)
        step(lr)
        twin.param_groups[0]["lr"] = lr
        twin.step()
        assert torch.allclose(p, q, rtol=1e-6)  # a float32 learning rate


def test_loading_compiles_nothing_again():
    step, _, opt = training(momentum=0.9)
    compiled = torch.compile(step)
    for x in batches(12):
        compiled(x)
        opt.load_state_dict(opt.state_dict())
    assert graphs() == (2, 1)
