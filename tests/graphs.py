"""Compiled trainings and their twins, for the tests of torch.compile."""

import pytest
import torch
import torch._dynamo
from torch import nn
from torch._dynamo.utils import counters
from twins import layers

from meansquare import RMSProp

QUIET = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of torch's own compiler
    pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning"),
]


@pytest.fixture(autouse=True)
def anew():
    """Nothing compiled before, and nothing counted."""
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


def check_against_eager(kind, options, dtype=torch.float32, change=lambda t, opt: None, steps=4):
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
