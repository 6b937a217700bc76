"""Memory is shared by parameters, gradients and state; rows are stepped in torch's order then."""

import numpy as np
import pytest
import torch
from torch import nn
from twins import apart, pair, parameters, set_gradients, walk

from meansquare import RMSProp

ROUNDING = 1e-5  # relative, of 30 steps in float32


class Subclassed(nn.Parameter):
    """Stepped by reference."""


def in_turn(ours, theirs):
    """Optimizers whose result depends on the order of the parameters, by their weight decay."""
    settings = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.5}
    return tuple(
        kind([{"params": own, **settings}], foreach=False)
        for kind, own in ((RMSProp, ours), (torch.optim.RMSprop, theirs))
    )


def views(*makes):
    """Parameters that are views of one buffer, and the same of another buffer."""
    buffers = [torch.randn(64, generator=torch.Generator().manual_seed(0)) for _ in range(2)]
    return [[nn.Parameter(make(buffer)) for make in makes] for buffer in buffers]


OVERLAPS = {
    "the_same_twice": (lambda b: b[:40], lambda b: b[:40]),
    "shifted": (lambda b: b[:40], lambda b: b[20:60]),
    "inside": (lambda b: b[:60], lambda b: b[10:20], lambda b: b[12:15]),
    "two_inside": (lambda b: b[30:40], lambda b: b[:60], lambda b: b[10:20]),
    "a_chain": (lambda b: b[:20], lambda b: b[15:35], lambda b: b[30:50], lambda b: b[45:64]),
    "interleaved": (lambda b: b[::2], lambda b: b[1::2], lambda b: b[:30]),
    "transposed": (lambda b: b.view(8, 8), lambda b: b.view(8, 8).T),
    "neighbours": (lambda b: b[:32], lambda b: b[32:]),
}


@pytest.mark.parametrize("turn", [list, reversed, lambda makes: makes[2:] + makes[:2]])
@pytest.mark.parametrize("makes", OVERLAPS.values(), ids=OVERLAPS)
def test_parameters_that_overlap_are_stepped_in_order_as_in_torch(makes, turn):
    opts = in_turn(*views(*turn(makes)))
    walk(opts, 20)
    assert apart(opts) <= ROUNDING


BORROWED = {
    "the_parameter_before": lambda ps, p: ps[p - 1].detach(),
    "the_parameter_after": lambda ps, p: ps[(p + 1) % len(ps)].detach(),
    "a_view_of_another": lambda ps, p: ps[0].detach().flip(0) if p == 0 else ps[0].detach().T,
    "itself": lambda ps, p: ps[p].detach(),
}


@pytest.mark.parametrize("gradient", BORROWED.values(), ids=BORROWED)
def test_a_gradient_in_the_memory_of_a_parameter_gives_torchs_result(gradient):
    source = torch.Generator().manual_seed(0)
    start = [torch.randn(6, 6, generator=source) for _ in range(3)]
    opts = pair([nn.Parameter(x) for x in start], momentum=0.9, foreach=False)
    for opt in opts:
        own = parameters(opt)
        for i, p in enumerate(own):
            p.grad = gradient(own, i)
        for _ in range(10):
            opt.step()
    assert apart(opts) <= ROUNDING


def test_a_gradient_that_lies_across_its_own_parameter_is_read_before_it_is_written():
    """torch refuses this one: some elements of the input and the written-to tensor are shared."""
    buffer = torch.arange(1.0, 41.0)
    p, plain = nn.Parameter(buffer[:39]), nn.Parameter(buffer[:39].clone())
    p.grad, plain.grad = buffer[1:], buffer[1:].clone()
    RMSProp([p], alpha=0).step()
    RMSProp([plain], alpha=0).step()
    assert torch.equal(p, plain)


@pytest.mark.parametrize("slow", [0, 1, 2])
def test_order_holds_between_rows_of_different_backends(slow):
    ours, theirs = views(lambda b: b[:40], lambda b: b[20:60], lambda b: b[30:64])
    opts = in_turn(ours, theirs)
    for t in range(10):
        set_gradients(t, ours, theirs)
        ours[slow].grad = torch.complex(ours[slow].grad, -ours[slow].grad).conj().imag
        theirs[slow].grad = ours[slow].grad.clone()
        for opt in opts:
            opt.step()
    assert apart(opts) <= ROUNDING


def other_format(p):
    p.grad_dtype = None
    return p.detach().view(torch.bfloat16)[: len(p)]


@pytest.mark.parametrize("gradient", [other_format, lambda p: p.detach()], ids=["half", "same"])
def test_a_gradient_in_its_parameters_memory_counts_as_it_was_before_the_step(gradient):
    source = torch.Generator().manual_seed(0)
    p = nn.Parameter(torch.randn(5000, generator=source))
    q = nn.Parameter(p.detach().clone())
    q.grad_dtype = None
    q.grad = gradient(p).clone()
    p.grad = gradient(p)
    for own in (p, q):
        RMSProp([own]).step()
    # One of the two may go through torch, whose sqrt is not correctly rounded on every processor.
    assert torch.allclose(p.nan_to_num(7), q.nan_to_num(7), rtol=1e-6, atol=1e-7)


def test_a_parameter_that_is_turned_in_its_own_memory_is_seen():
    ours, theirs = [nn.Parameter(torch.arange(16.0).view(4, 4).clone()) for _ in range(2)]
    opts = RMSProp([ours]), torch.optim.RMSprop([theirs])
    for turned in (False, True):
        for p, opt in zip((ours, theirs), opts, strict=True):
            if turned:
                p.data = p.data.t()
                for state in opt.state.values():
                    state["square_avg"] = state["square_avg"].t()
            p.grad = p.detach().t().t() if p is ours else p.detach().clone()
            if turned:
                p.grad = p.detach().t() if p is ours else p.detach().t().clone()
            opt.step()
    assert apart(opts) <= ROUNDING


def test_a_parameter_given_twice_counts_each_of_its_steps():
    with pytest.warns(UserWarning, match="duplicate parameters"):
        opt = RMSProp([p := nn.Parameter(torch.ones(3))] * 2, lr=0.01, bias_correction=True)
    single = RMSProp([q := nn.Parameter(torch.ones(3))], lr=0.01, bias_correction=True)
    p.grad, q.grad = torch.ones(3), torch.ones(3)
    for _ in range(3):
        opt.step()
        single.step()
        single.step()
    assert torch.equal(p, q)


def test_state_in_the_memory_of_its_parameter_goes_to_torch_operations(capsys):
    opt = RMSProp([p := nn.Parameter(torch.ones(4))], momentum=0.9)
    walk((opt,), 2)
    opt.state[p]["momentum_buffer"] = p.detach()
    walk((opt,), 1)
    opt.explain()
    assert "lies where the C++ kernel cannot step it" in capsys.readouterr().out


@pytest.mark.parametrize("first", [0, 1])
def test_a_parameter_that_moves_into_memory_of_another_backends_row_is_stepped_in_turn(first):
    opts = []
    for kind in (RMSProp, torch.optim.RMSprop):
        slow = Subclassed(torch.linspace(1, 2, 40))
        params = [nn.Parameter(torch.ones(30)), nn.Parameter(torch.ones(30))]
        params.insert(first, slow)
        opt = kind(params, lr=0.05, momentum=0.9, weight_decay=0.5, foreach=False)
        walk((opt,), 3)
        params[2].grad, params[2].data = None, slow.data[:30]
        walk((opt,), 10, first=3)
        opts.append(opt)
    assert apart(opts) <= ROUNDING


@pytest.mark.parametrize("kind", [nn.Parameter, Subclassed])
def test_parameters_whose_storages_overlap_are_stepped_in_turn(kind):
    opts = []
    for make in (RMSProp, torch.optim.RMSprop):
        buffer = np.linspace(1, 2, 64, dtype=np.float32)
        pieces = [torch.from_numpy(buffer[i : i + 40]) for i in (0, 10, 20)]
        params = [nn.Parameter(pieces[0]), kind(pieces[1]), nn.Parameter(pieces[2])]
        opts.append(make(params, lr=0.05, momentum=0.9, weight_decay=0.5, foreach=False))
    walk(opts, 10)
    assert apart(opts) <= ROUNDING
