"""Storage moves under the same Parameters; steps go on as torch's do."""

from collections import defaultdict

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from twins import apart, copies, gradient_of, layouts, pair, parameters, set_gradients, walk

from meansquare import RMSProp
from meansquare.kernels import cpu

ROUNDING = 1e-5  # relative, of 30 steps in float32


class Subclassed(nn.Parameter):
    """Stepped by reference."""


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


@pytest.mark.parametrize("size", [4, 1000, 200_000, 1_000_000])
def test_every_step_raises_the_version_of_what_it_writes_and_of_nothing_else(size):
    """As long as one thread steps, as several do, and as they do without the GIL."""
    opt = RMSProp([nn.Parameter(torch.ones(size)) for _ in range(3)], momentum=0.9)
    first, _, last = params = parameters(opt)
    set_gradients(0, params)
    last.grad = None
    before = [p._version for p in params]
    for _ in range(3):
        opt.step()
    assert [p._version - v for p, v in zip(params, before, strict=True)] == [3, 3, 0]
    assert first.grad._version == 0


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
