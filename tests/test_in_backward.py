"""A step within backward is the step after it, and no gradient outlives it."""

import copy

import pytest
import torch
from snapshot import contents
from torch import nn
from twins import distance, parameters

from meansquare import SGD, Adam, RMSProp, decay_groups

KINDS = {
    "RMSProp": lambda params: RMSProp(params, lr=1e-3, centered=True, momentum=0.9),
    "Adam": lambda params: Adam(params, lr=1e-3, clip_value=0.1),
    "SGD": lambda params: SGD(params, lr=1e-2, momentum=0.9),
    "max_update_rms": lambda params: RMSProp(params, lr=1e-2, max_update_rms=0.5),
}


def network(seed=0):
    torch.manual_seed(seed)
    first, last = nn.Linear(6, 300), nn.Linear(600, 2)
    return nn.Sequential(first, nn.LayerNorm(300), nn.Linear(300, 600), last)


def batches(n):
    source = torch.Generator().manual_seed(1)
    return [torch.randn(8, 6, generator=source) for _ in range(n)]


def train(model, opt, inputs):
    for x in inputs:
        model(x).square().sum().backward()
        opt.step()
        opt.zero_grad()


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_it_gives_the_bits_of_a_step_after_backward(make):
    model, other = network(), network()
    opt, plain = make(model.parameters()), make(other.parameters())
    opt.step_in_backward()
    for own, its in ((model, opt), (other, plain)):
        train(own, its, batches(5))
    assert distance(parameters(opt), parameters(plain)) == 0
    assert contents(opt)[0][0][3] == contents(plain)[0][0][3]


def test_no_gradient_is_left_and_at_most_one_is_held():
    model, held = network(), []
    opt = RMSProp(model.parameters(), lr=1e-3)
    for p in model.parameters():  # before ours, so that its gradient is there still
        p.register_post_accumulate_grad_hook(
            lambda _: held.append(sum(q.grad is not None for q in model.parameters()))
        )
    opt.step_in_backward()
    train(model, opt, batches(2))
    assert (set(held), len(held)) == ({1}, 2 * len(list(model.parameters())))


def test_schedules_groups_and_parameters_added_later_go_on():
    model, other, head = network(), network(), nn.Linear(2, 2)
    twin = copy.deepcopy(head)
    results = []
    for own, top, inside in ((model, head, True), (other, twin, False)):
        opt = RMSProp(decay_groups(own, 0.1), lr=1e-3)
        _ = opt.step_in_backward() if inside else None
        opt.add_param_group({"params": top.named_parameters(), "lr": 1e-4})
        schedule = torch.optim.lr_scheduler.ExponentialLR(opt, 0.5)
        for x in batches(4):
            top(own(x)).square().sum().backward()
            opt.step()
            opt.zero_grad()
            schedule.step()
        results.append(parameters(opt))
    assert distance(*results) == 0


def test_it_ends_when_its_handle_is_removed_or_its_block_is_left():
    model = network()
    opt = RMSProp(model.parameters())
    with opt.step_in_backward():
        train(model, opt, batches(1))
    before = contents(opt)
    model(batches(1)[0]).sum().backward()
    assert contents(opt) == before
    assert all(p.grad is not None for p in model.parameters())


def test_it_steps_every_parameter_once_when_asked_for_twice():
    model = network()
    opt = RMSProp(model.parameters())
    opt.step_in_backward()
    opt.step_in_backward()
    train(model, opt, batches(1))
    assert {opt.state[p]["step"].item() for p in model.parameters()} == {1}


class Wrapped(nn.Parameter):
    """Stepped by torch operations."""


def test_a_parameter_of_the_reference_is_stepped_alone_too():
    p, q = Wrapped(torch.ones(3)), nn.Parameter(torch.ones(3))
    opt = RMSProp([p, q])
    opt.step_in_backward()
    for _ in range(2):
        (p * q).sum().backward()
    assert [opt.state[x]["step"].item() for x in (p, q)] == [2, 2]


def test_global_norm_clipping_is_refused_with_it_and_changes_nothing():
    model = network()
    opt = RMSProp(model.parameters(), max_grad_norm=1.0)
    with pytest.raises(ValueError, match=r"RMSProp: max_grad_norm must be None"):
        opt.step_in_backward()
    train(model, opt, batches(1))


def test_a_norm_that_is_set_later_is_refused_in_backward_before_anything_is_written():
    model = network()
    opt = RMSProp(model.parameters())
    opt.step_in_backward()
    opt.param_groups[0]["max_grad_norm"] = 1.0
    before = contents(opt)[0]
    with pytest.raises(ValueError, match="max_grad_norm must be None"):
        train(model, opt, batches(1))
    assert contents(opt)[0] == before


def test_a_copy_of_the_optimizer_has_no_hooks():
    model = network()
    opt = RMSProp(model.parameters())
    opt.step_in_backward()
    again = copy.deepcopy(opt)
    train(model, again, batches(1))
    assert all(state["step"] == 1 for state in opt.state.values())
    assert all(state["step"] == 0 for state in again.state.values())


@pytest.mark.parametrize("norm", [nn.LayerNorm(4), nn.BatchNorm1d(4), nn.GroupNorm(2, 4)])
def test_biases_and_norms_do_not_decay_and_weights_do(norm):
    model = nn.Sequential(nn.Linear(4, 4), norm, nn.MultiheadAttention(4, 1))
    weights, others = decay_groups(model, 0.1)
    assert [p.dim() for _, p in weights["params"]] == [2, 2, 2]
    assert {p.dim() for _, p in others["params"]} == {1}
    opt = RMSProp([weights, others])
    assert sum(len(group["params"]) for group in opt.param_groups) == len([*model.parameters()])
    assert [group["weight_decay"] for group in opt.param_groups] == [0.1, 0.0]


def test_frozen_parameters_are_left_to_step():
    model = network()
    model[0].requires_grad_(False)
    opt = RMSProp(model.parameters())
    opt.step_in_backward()
    train(model, opt, batches(2))
    assert {opt.state[p]["step"].item() for p in model[2].parameters()} == {2}


def test_a_group_with_a_norm_is_not_added():
    opt = RMSProp(network().parameters())
    opt.step_in_backward()
    group = {"params": nn.Linear(2, 2).parameters(), "max_grad_norm": 1.0}
    with pytest.raises(ValueError, match=r"max_grad_norm must be None .* in group 1"):
        opt.add_param_group(group)
    assert len(opt.param_groups) == 1


def test_the_end_of_an_inner_block_leaves_the_outer_ones_hooks():
    model = network()
    opt = RMSProp(model.parameters())
    with opt.step_in_backward():
        with opt.step_in_backward():
            pass
        train(model, opt, batches(1))
    assert {opt.state[p]["step"].item() for p in model.parameters()} == {1}
