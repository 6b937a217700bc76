"""Copies, pickles and checkpoints in another memory layout go on as the original does."""

import copy
import pickle

import pytest
import torch
from snapshot import contents, tensors
from torch import nn
from twins import distance, layers, layouts, parameters, through_a_file, walk

from meansquare import RMSProp

OPTIONS = [
    {},
    {"momentum": 0.9, "centered": True, "weight_decay": 0.01},
    {"momentum": 0.5, "nesterov": True, "eps_place": "inside", "seed": 7, "bias_correction": True},
]
ROUNDING = 1e-4  # relative, of some steps in float32, for the centered variance

COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda both: pickle.loads(pickle.dumps(both)),
    "copy_of_a_copy": lambda both: copy.deepcopy(copy.deepcopy(both)),
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_copy_of_model_and_optimizer_steps_its_own_parameters(options, copied):
    first = layers()
    opt = RMSProp(first.named_parameters(), **options)
    walk((opt,), 3)
    second, again = copied((first, opt))
    before = contents(opt)
    walk((again,), 3)
    assert [id(p) for p in parameters(again)] == [id(p) for p in second.parameters()]
    assert contents(opt) == before
    walk((opt,), 3)
    assert all(map(torch.equal, tensors(opt), tensors(again)))


def test_a_copy_of_the_optimizer_alone_goes_on_alike():
    opt = RMSProp(layouts(), momentum=0.9)
    walk((opt,), 3)
    again = copy.deepcopy(opt)
    walk((opt, again), 3)
    assert all(map(torch.equal, tensors(opt), tensors(again)))


def test_an_optimizer_pickled_before_an_option_existed_gets_its_default():
    opt = RMSProp(layouts())
    walk((opt,), 1)
    for group in opt.param_groups:
        del group["seed"], group["nesterov"]
    again = pickle.loads(pickle.dumps(opt))
    walk((again,), 1)
    assert again.param_groups[0]["seed"] == 0


def images(layout):
    values = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    return [nn.Parameter(values.contiguous(memory_format=layout))]


@pytest.mark.parametrize("saved", [torch.channels_last, torch.contiguous_format], ids=str)
@pytest.mark.parametrize("ours", [torch.channels_last, torch.contiguous_format], ids=str)
@pytest.mark.parametrize("kind", [RMSProp, torch.optim.RMSprop])
def test_a_checkpoint_fits_parameters_of_another_memory_layout(kind, saved, ours):
    opt = kind(images(saved), momentum=0.9, centered=True)
    again = RMSProp(images(ours))
    walk((opt,), 3)
    again.load_state_dict(through_a_file(opt.state_dict()))
    for p, q in zip(parameters(opt), parameters(again), strict=True):
        q.data.copy_(p)
        assert all(torch.equal(v, opt.state[p][k]) for k, v in again.state[q].items())
        assert again.state[q]["square_avg"].is_contiguous(memory_format=ours)
    walk((opt, again), 3, first=3)
    assert distance(parameters(again), parameters(opt)) <= (0 if kind is RMSProp else ROUNDING)
