"""What changes between the steps of a graph is heeded, or refused in one line."""

import copy

import pytest
import torch
from graphs import QUIET, anew, batches, graphs, same_state, training
from torch import nn

from meansquare import SGD, RMSProp

__all__ = ["anew"]
pytestmark = QUIET


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


@pytest.mark.parametrize("backend", ["inductor", "aot_eager"])
def test_learning_rates_that_are_tensors_are_those_of_their_groups(backend):
    params = [nn.Parameter(torch.ones(3)) for _ in range(4)]
    made = [
        RMSProp([{"params": pair[:1], "lr": 0.1}, {"params": pair[1:], "lr": torch.tensor(0.25)}])
        for pair in (params[:2], params[2:])
    ]
    compiled = torch.compile(made[0].step, backend=backend)
    for rates in ((0.1, torch.tensor(0.25)), (torch.tensor(0.5), 0.125), (0.5, torch.tensor(0.5))):
        for opt in made:
            opt.param_groups[0]["lr"], opt.param_groups[1]["lr"] = rates
            for p in opt._parameters():
                p.grad = torch.full((3,), 0.5)
        compiled()
        made[1].step()
        assert all(map(torch.equal, params[:2], params[2:]))


def test_a_tensor_that_the_function_puts_for_another_counts():
    p, q = (nn.Parameter(torch.ones(3)) for _ in range(2))
    ours, twin = (RMSProp([x], lr=torch.tensor(0.5)) for x in (p, q))

    def step(opt):
        for group in opt.param_groups:
            group["lr"] = group["lr"] * 0.5
        opt.step()

    compiled = torch.compile(step)
    for _ in range(4):
        p.grad, q.grad = torch.ones(3), torch.ones(3)
        compiled(ours)
        step(twin)
        assert torch.equal(p, q)


def test_a_group_that_the_function_replaces_counts():
    p = nn.Parameter(torch.ones(3))
    opt = RMSProp([p], lr=0.5)

    @torch.compile
    def step(opt):
        opt.param_groups[0] = {**opt.param_groups[0], "lr": 0.25}
        opt.step()

    p.grad = torch.ones(3)
    step(opt)
    assert torch.allclose(p, torch.full((3,), 1 - 2.5))


@pytest.mark.parametrize("kind", [RMSProp, SGD])
def test_an_optimizer_may_be_made_in_a_compiled_function(kind):
    p, q = (nn.Parameter(torch.ones(3)) for _ in range(2))

    def step(p, x):
        opt = kind([p], lr=0.125)
        p.grad = x * 1
        opt.step()
        return p.sum()

    torch.compile(step, backend="aot_eager")(p, torch.ones(3))
    step(q, torch.ones(3))
    assert torch.equal(p, q)


def test_a_step_without_work_counts_once_steps_were_compiled():
    p, q = (nn.Parameter(torch.ones(3)) for _ in range(2))
    ours, twin = RMSProp([p]), RMSProp([q])
    compiled = torch.compile(ours.step)
    for t in range(3):
        for x, opt in ((p, ours), (q, twin)):
            x.grad = torch.full((3,), float(t < 2))
            opt.param_groups[0]["lr"] = 0.1 * (t < 2)
        (compiled if t < 2 else ours.step)()
        twin.step()
    assert same_state(ours, twin)
    assert ours.state[p]["step"] == 3
