"""A tensor that cannot be stepped gets one line, and no tensor of any group is changed."""

import warnings

import pytest
import torch
from snapshot import contents, one_line
from torch import nn
from twins import every_dtype, parameters, set_gradients

from meansquare import RMSProp
from meansquare.kernels import cpu


def sparse(opt, p):
    p.grad = torch.ones(p.shape).to_sparse()


def integer(opt, p):
    p.grad_dtype = None
    p.grad = torch.ones(p.shape, dtype=torch.int32)


def float8(opt, p):
    p.grad_dtype = None
    p.grad = torch.ones(p.shape).to(torch.float8_e4m3fn)


def complex_gradient(opt, p):
    p.grad_dtype = None
    p.grad = torch.ones(p.shape, dtype=torch.complex64)


def another_shape(opt, p):
    p.data = p.data[:2].clone()


def resized(opt, p):
    p.grad = None
    p.data = torch.ones(5, 4)
    p.grad = torch.ones(5, 4)


def state_of_another_shape(opt, p):
    opt.state[p]["square_avg"] = torch.ones(2)


def unused_state_of_another_shape(opt, p):
    opt.state[p]["grad_avg"] = torch.ones(2)
    opt.param_groups[-1]["centered"] = True


def no_tensor(opt, p):
    opt.state[p]["momentum_buffer"] = 0.5


def sparse_state(opt, p):
    opt.state[p]["square_avg"] = torch.ones(p.shape).to_sparse()


def complex_state(opt, p):
    opt.state[p]["square_avg"] = torch.ones(p.shape, dtype=torch.complex64)


def step_count(opt, p):
    opt.state[p]["step"] = torch.ones(2)


def expanded(opt, p):
    p.data = torch.ones(3, 1).expand(3, 4)


def overlapping_itself(opt, p):
    p.data = torch.ones(6).as_strided((3, 4), (1, 1))


def on_meta(opt, p):
    p.grad = None
    torch.utils.swap_tensors(p, nn.Parameter(p.detach().to("meta")))
    p.grad = torch.ones(3, 4, device="meta")


def freed(opt, p):
    p.untyped_storage().resize_(0)


def cut(opt, p):
    p.untyped_storage().resize_(16)


def freed_gradient(opt, p):
    p.grad.untyped_storage().resize_(0)


def freed_state(opt, p):
    opt.state[p]["momentum_buffer"].untyped_storage().resize_(0)


def float8_parameter(opt, p):
    p.data = p.data.to(torch.float8_e4m3fn)


def leaf_of_a_differentiable_step(opt, p):
    opt.param_groups[-1]["differentiable"] = True


SPOILED = {
    sparse: (TypeError, "sparse gradients are not supported", "use a dense gradient"),
    integer: (
        TypeError,
        "got a gradient of torch.int32 for torch.float32",
        "cast it to torch.float32",
    ),
    float8: (TypeError, "got a gradient of torch.float8_e4m3fn", "cast it"),
    complex_gradient: (TypeError, "got a gradient of torch.complex64 for torch.float32", "cast it"),
    another_shape: (ValueError, "got a gradient of shape (3, 4) for (2, 4)", "set it to None"),
    resized: (ValueError, "state 'square_avg' of", "its shape (5, 4), got (3, 4)"),
    state_of_another_shape: (ValueError, "state 'square_avg' of", "its shape (3, 4), got (2,)"),
    unused_state_of_another_shape: (
        ValueError,
        "state 'grad_avg' of",
        "its shape (3, 4), got (2,)",
    ),
    no_tensor: (TypeError, "state 'momentum_buffer' of", "must be a dense tensor, got 0.5"),
    sparse_state: (
        TypeError,
        "state 'square_avg' of",
        "must be a dense tensor, got torch.sparse_coo",
    ),
    complex_state: (TypeError, "state 'square_avg' of", "got torch.complex64"),
    step_count: (TypeError, "state 'step' of", "must be a count"),
    expanded: (ValueError, "is expanded", "optimize the tensor that it is a view of"),
    overlapping_itself: (ValueError, "overlaps itself", "optimize the tensor that it is a view of"),
    on_meta: (ValueError, "is on the meta device", "to_empty()"),
    freed: (ValueError, "has lost its memory: 0 bytes", "48 are needed"),
    cut: (ValueError, "has lost its memory: 16 bytes", "48 are needed"),
    freed_gradient: (ValueError, "the gradient of", "has lost its memory"),
    freed_state: (ValueError, "state 'momentum_buffer' of", "has lost its memory"),
    float8_parameter: (TypeError, "dtype must be one of float32", "got torch.float8_e4m3fn"),
    leaf_of_a_differentiable_step: (RuntimeError, "cannot write a leaf", "optimize its clone()"),
}


class Subclassed(nn.Parameter):
    """Not a plain Parameter: the C++ kernels leave it to torch operations."""


@pytest.fixture(params=["compiled", "without_compiler"])
def compiler(request, monkeypatch):
    with warnings.catch_warnings():
        if request.param == "without_compiler":
            monkeypatch.setattr(cpu, "native", None)
            warnings.simplefilter("ignore", RuntimeWarning)
        yield


@pytest.mark.parametrize("kind", [nn.Parameter, Subclassed])
@pytest.mark.parametrize("spoil", SPOILED, ids=lambda spoil: spoil.__name__)
def test_a_bad_last_row_stops_the_step_before_any_row_is_written(spoil, kind, compiler):
    opt, p = every_dtype(), kind(torch.ones(3, 4))
    opt.add_param_group({"params": [p], "momentum": 0.9})
    for t in range(2):
        set_gradients(t, parameters(opt))
        opt.step()
    spoil(opt, p)
    before = contents_but(opt, p)
    error, *words = SPOILED[spoil]
    with pytest.raises(error) as caught:
        opt.step()
    assert one_line(caught.value, "parameter 0 of group 4", *words)
    assert contents_but(opt, p) == before


def contents_but(opt, spoiled):
    """Without the spoiled row, whose tensors may have neither strides nor bytes."""
    own, last = opt.state.pop(spoiled), opt.param_groups.pop()
    rows = contents(opt)
    opt.state[spoiled] = own
    opt.param_groups.append(last)
    kept = {name: (id(v), getattr(v, "_version", 0)) for name, v in own.items()}
    return rows, kept, spoiled._version


@pytest.mark.parametrize("spoil", [sparse, integer, expanded, another_shape], ids=str)
def test_a_bad_row_in_the_first_step_leaves_no_state_behind(spoil, compiler):
    opt = RMSProp([nn.Parameter(torch.ones(3, 4)) for _ in range(3)], momentum=0.9)
    set_gradients(0, parameters(opt))
    spoil(opt, parameters(opt)[-1])
    with pytest.raises((TypeError, ValueError), match="parameter 2 of group 0"):
        opt.step()
    assert not opt.state


@pytest.mark.parametrize("kind", [nn.Parameter, Subclassed])
def test_an_inference_tensor_stops_the_step_outside_of_inference_mode(kind, compiler):
    with torch.inference_mode():
        p = kind(torch.ones(3))
        p.grad = torch.ones(3)
    opt = RMSProp([first := nn.Parameter(torch.ones(3)), p])
    first.grad = torch.ones(3)
    with pytest.raises(RuntimeError) as caught:
        opt.step()
    assert one_line(caught.value, "parameter 1 of group 0 is an inference tensor", "its clone()")
    assert (first.tolist(), len(opt.state)) == ([1, 1, 1], 0)
    with torch.inference_mode():
        opt.step()
    assert {float(state["step"]) for state in opt.state.values()} == {1}


def test_a_parameter_in_two_groups_is_refused_and_the_group_not_added():
    opt, p = every_dtype(), nn.Parameter(torch.ones(2))
    opt.add_param_group({"params": [p]})
    before = contents(opt)
    with pytest.raises(ValueError, match="some parameters appear in more than one"):
        opt.add_param_group({"params": [nn.Parameter(torch.ones(2)), p]})
    assert contents(opt) == before


def test_the_message_names_the_parameter_where_it_has_a_name():
    layer = nn.Embedding(3, 2, sparse=True)
    opt = RMSProp(layer.named_parameters())
    layer(torch.tensor([1])).sum().backward()
    with pytest.raises(
        TypeError, match=r"^RMSProp: sparse gradients .* in parameter 'weight'; use"
    ):
        opt.step()
    assert not opt.state


class NoRoot(torch.Tensor):
    """Steps through torch operations, one of which it refuses."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is torch.Tensor.sqrt:
            raise RuntimeError("no root of this one")
        return super().__torch_function__(func, types, args, kwargs or {})


def test_what_a_subclass_refuses_stops_the_step_before_a_kernel_writes():
    opt = RMSProp([nn.Parameter(torch.ones(3)), nn.Parameter(NoRoot(torch.ones(3)))])
    for p in parameters(opt):
        p.grad = torch.ones_like(p)
    with pytest.raises(RuntimeError, match="no root of this one"):
        opt.step()
    assert [p.tolist() for p in parameters(opt)] == [[1.0] * 3] * 2
    assert [opt.state[p]["step"].item() for p in parameters(opt)] == [0, 0]
