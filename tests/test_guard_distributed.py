"""Ranks decide alike: what one sees is skipped, or gone back from, by all."""

import math

import pytest
import torch
import torch.distributed as dist
from ranks import ranks
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from meansquare import Guard, RMSProp


def told(guard):
    return [(event.what, event.action, event.layers, event.step) for event in guard.events]


def in_parallel(spike, broken):
    """DDP training in which the last rank gets one bad batch: weights, and what was done."""
    torch.manual_seed(0)
    rank, last = dist.get_rank(), dist.get_world_size() - 1
    model = DistributedDataParallel(nn.Linear(4, 1))
    optimizer = RMSProp(model.parameters(), lr=1e-3, guard=Guard(spike=spike, snapshot_every=5))
    draws = torch.Generator().manual_seed(rank)
    for i in range(48):
        batch = torch.randn(8, 4, generator=draws)
        scale = broken if (i == 40 and rank == last) else 1.0
        optimizer.zero_grad()
        loss = (model(batch) - batch.sum(1, keepdim=True)).square().mean() * scale
        loss.backward()
        optimizer.guard.saw(loss)
        optimizer.step()
    weights = [p.tolist() for p in model.parameters()]
    return weights, told(optimizer.guard)


@pytest.mark.parametrize("spike", ["skip", "lower", "rollback"])
@pytest.mark.parametrize("broken", [math.nan, math.inf, 1e6])
def test_a_batch_that_is_bad_on_one_rank_is_answered_by_all_alike(broken, spike):
    first, *others = ranks(2).call(in_parallel, spike, broken)
    assert others == [first]
    weights, events = first
    assert [step for *_, step in events] == [40]
    assert all(
        math.isfinite(x) for row in weights for x in [*map(float, torch.tensor(row).ravel())]
    )


def with_a_loss(losses):
    """Steps of ranks whose gradients are alike and whose losses are not."""
    p = nn.Parameter(torch.ones(2))
    optimizer = RMSProp([p], lr=1e-3, guard=Guard())
    for i in range(40):
        p.grad = torch.ones(2)
        optimizer.guard.saw(1.0 + 0.1 * math.sin(i))
        optimizer.step()
    p.grad = torch.ones(2)
    loss = losses[dist.get_rank()]
    if loss is not None:
        optimizer.guard.saw(loss)
    optimizer.step()
    return p.tolist(), told(optimizer.guard)


@pytest.mark.parametrize("losses", [(1.0, 1e4), (None, 1e4), (1.0, math.nan), (1.0, 1.0)])
def test_the_mean_of_the_losses_decides(losses):
    first, second = ranks(2).call(with_a_loss, losses)
    assert first == second
    assert len(first[1]) == (losses != (1.0, 1.0))


PLACED = {"rows": Shard(0), "columns": Shard(1), "whole": Replicate()}


def of_parts(placed, bad, size):
    """A tensor that lies over ranks, of whose gradient one element is bad: its weights, and what
    was done.
    """
    mesh = init_device_mesh("cpu", (size,))
    how = [PLACED[placed]] if placed else None
    whole = torch.arange(30.0).reshape(6, 5) + 1

    def laid(t):
        return distribute_tensor(t, mesh, how) if how else t

    p = nn.Parameter(laid(whole))
    guard = Guard(clip=8.0, spike="rollback", snapshot_every=5, agree=bool(how))
    optimizer = RMSProp([("w", p)], lr=1e-3, guard=guard)
    for i in range(46):
        gradient = torch.full((6, 5), 1.0 + 0.1 * math.sin(i))
        if i == 40:
            gradient[5, 4] = bad
        p.grad = laid(gradient)
        optimizer.step()
    own = p.full_tensor() if how else p
    return own.tolist(), told(guard)


@pytest.mark.parametrize("placed", PLACED)
@pytest.mark.parametrize("bad", [math.nan, 1e4, 60.0])
def test_a_tensor_in_parts_is_guarded_as_the_whole_is(placed, bad):
    wanted = ranks(2).call(of_parts, None, bad, 2)[0]
    for got in ranks(2).call(of_parts, placed, bad, 2):
        assert got[1] == wanted[1]
        # A norm is summed in another order: its last bit is in a gradient that is clipped.
        assert torch.tensor(got[0]).allclose(torch.tensor(wanted[0]), rtol=1e-6, atol=0)
