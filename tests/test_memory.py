"""Storage moves and is shared under the same Parameters; steps go on as torch's do."""

from collections import defaultdict

import numpy as np
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from twins import apart, copies, gradient_of, layouts, pair, parameters, set_gradients, walk

from meansquare import RMSProp
from meansquare.kernels import cpu

ROUNDING = 1e-5  # relative, of 30 steps in float32


def clear(opt):
    opt.state.clear()


def new_state(opt):
    opt.state = defaultdict(dict)


def empty_dicts(opt):
    for p in parameters(opt):
        opt.state[p] = {}


def new_data(opt):
    for p in parameters(opt):
        p.data = p.data.mT.contiguous().mT * 2 if p.dim() > 1 else p.data * 2


def new_gradient_memory(opt):
    for p in parameters(opt):
        gradient_of(p).data = gradient_of(p).clone()


def swap(opt):
    for p in parameters(opt):
        p.grad = None  # torch swaps no tensor that a gradient accumulates into
        torch.utils.swap_tensors(p, nn.Parameter(p.detach() * 2))


def load_buffers(opt):
    for state in opt.state.values():
        state["momentum_buffer"] = state["momentum_buffer"] * 0.5


def int_steps(opt):
    for state in opt.state.values():
        state["step"] = torch.tensor(float(state["step"]))


def new_step_data(opt):
    for state in opt.state.values():
        state["step"].data = state["step"].data.clone()


def swap_steps(opt):
    for state in opt.state.values():
        torch.utils.swap_tensors(state["step"], state["step"].clone())


CHANGES = [
    clear,
    new_state,
    empty_dicts,
    new_data,
    new_gradient_memory,
    swap,
    load_buffers,
    int_steps,
    new_step_data,
    swap_steps,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_storage_changed_between_steps_is_seen(change):
    opts = pair(layouts(), lr=1e-3, momentum=0.9)
    for turn in range(3):
        walk(opts, 10, first=10 * turn)
        for opt in opts:
            change(opt)
    walk(opts, 10, first=30)
    assert apart(opts) <= ROUNDING
    assert {s["step"].item() for s in opts[0].state.values()} == {
        s["step"].item() for s in opts[1].state.values()
    }


def dtype_of(opt):
    return {value.dtype for s in opt.state.values() for name, value in s.items() if name != "step"}


def test_a_module_goes_to_double_and_back_in_mid_run():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    twin = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    twin.load_state_dict(model.state_dict())
    opts = RMSProp(model.parameters(), lr=1e-3), torch.optim.RMSprop(twin.parameters(), lr=1e-3)
    for turn, convert in enumerate((nn.Module.double, nn.Module.float, nn.Module.double)):
        walk(opts, 10, first=10 * turn)
        convert(model)
        convert(twin)
    walk(opts, 10, first=30)
    # torch keeps the average of a float64 parameter in float32: rounding of float32 remains.
    assert apart(opts) <= ROUNDING
    assert dtype_of(opts[0]) == {torch.float64}


def test_a_module_changes_its_memory_format_in_mid_run():
    torch.manual_seed(0)
    models = [nn.Conv2d(3, 4, 3) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    opts = [
        kind(model.parameters(), lr=1e-3, momentum=0.9)
        for kind, model in zip((RMSProp, torch.optim.RMSprop), models, strict=True)
    ]
    for turn, layout in enumerate((torch.channels_last, torch.contiguous_format)):
        walk(opts, 10, first=10 * turn)
        for model in models:
            model.to(memory_format=layout)
        weight = models[0].weight
        walk(opts, 1, first=100 + turn)
        assert opts[0].state[weight]["square_avg"].stride() == weight.stride()
    assert apart(opts) <= ROUNDING


def test_several_optimizers_take_turns_on_one_module():
    ours, theirs = layouts(), copies(layouts())
    pairs = [
        (RMSProp(ours, **settings), torch.optim.RMSprop(theirs, **settings))
        for settings in ({"lr": 1e-3}, {"lr": 1e-2, "momentum": 0.9}, {"centered": True})
    ]
    for t in range(15):
        walk(pairs[t % 3], 1, first=t)
    assert apart(pairs[0]) <= 10 * ROUNDING  # centered among them


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16], ids=str)
def test_state_stays_float32_when_a_parameter_goes_to_half_and_back(narrow):
    opt = RMSProp(layouts(), lr=1e-3, momentum=0.9)
    walk((opt,), 3)
    kept = [opt.state[p]["momentum_buffer"].clone() for p in parameters(opt)]
    for p in parameters(opt):
        p.grad, p.data = None, p.data.to(narrow)
    set_gradients(3, parameters(opt))
    opt.param_groups[0]["alpha"] = opt.param_groups[0]["momentum"] = 0
    opt.step()
    assert dtype_of(opt) == {torch.float32}
    assert all(map(torch.equal, kept, (opt.state[p]["momentum_buffer"] for p in parameters(opt))))


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
    assert torch.equal(p.nan_to_num(7), q.nan_to_num(7))


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


class Spoiler(TorchFunctionMode):
    """Runs Python at whatever torch is asked for, and throws state away then."""

    def __init__(self, opt):
        super().__init__()
        self.opt, self.asked = opt, []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.asked.append(func)
        for state in self.opt.state.values():
            state["square_avg"] = state["square_avg"].clone()
        return func(*args, **(kwargs or {}))


def test_a_step_under_a_torch_function_mode_runs_none_of_its_python():
    opt = RMSProp([nn.Parameter(torch.ones(100)) for _ in range(50)])
    walk((opt,), 2)
    with Spoiler(opt) as mode:
        opt.step()
    assert mode.asked == []
    with torch.device("cpu"):
        walk((opt,), 1)
    assert {float(state["step"]) for state in opt.state.values()} == {4}


def test_state_made_and_loaded_in_inference_mode_is_written_outside_of_it():
    opt = RMSProp([nn.Parameter(torch.ones(4)), Subclassed(torch.ones(4))], momentum=0.9)
    walk((opt,), 1)
    with torch.inference_mode():
        opt.load_state_dict(opt.state_dict())
    walk((opt,), 2)
    assert {float(state["step"]) for state in opt.state.values()} == {3}


class Subclassed(nn.Parameter):
    """Stepped by reference."""


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


@pytest.mark.skipif(cpu.native is None, reason=f"C++ kernels {cpu.detail}")
def test_a_row_that_is_stepped_by_reference_lets_the_table_stand():
    opt = RMSProp([Subclassed(torch.ones(4)), nn.Parameter(torch.ones(4))])
    walk((opt,), 2)
    opt.add_param_group({"params": [p := nn.Parameter(torch.ones(6))]})
    walk((opt,), 1)
    p.grad = torch.as_strided(p.detach(), (6,), (0,))  # over itself: declined as it lies
    opt.step()
    table = opt._plan._native
    opt.step()
    assert opt._plan._native is table
    opt.param_groups[0]["momentum"] = 0.9
    walk((opt,), 1)
    assert all(opt.state[p]["momentum_buffer"].any() for p in opt.param_groups[0]["params"])


@pytest.mark.parametrize("kind", [RMSProp, torch.optim.RMSprop])
def test_a_backward_through_weights_that_a_step_has_changed_raises(kind):
    weight, x = nn.Parameter(torch.ones(3)), torch.ones(3, requires_grad=True)
    opt, loss = kind([weight]), (weight * x).square().sum()
    loss.backward(retain_graph=True)
    opt.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_steps_in_inference_mode_leave_state_that_steps_outside_can_write():
    opt, plain = RMSProp(layouts(), momentum=0.9), RMSProp(layouts(), momentum=0.9)
    set_gradients(0, parameters(opt), parameters(plain))
    with torch.inference_mode():
        opt.step()
    plain.step()
    for own in (opt, plain):
        own.step()
    assert not any(v.is_inference() for state in opt.state.values() for v in state.values())
    assert all(map(torch.equal, parameters(opt), parameters(plain)))
