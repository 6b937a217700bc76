"""What users do with distributed parameters that is not plain training."""

import copy

import pytest
import spread
import torch
import torch.distributed as dist
from ranks import ranks
from torch import nn
from torch.distributed.tensor import DeviceMesh, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

from meansquare import SGD, RMSProp, doctor
from meansquare.parts import part


def placed(t, placement=None, mesh=None):
    return distribute_tensor(t, mesh or spread.world(), [placement or Shard(0)])


def warmed_up(rates, scaled):
    """Steps of a group in which only the first rank has a parameter, or of which one rests."""
    rank = dist.get_rank()
    params = [nn.Parameter(torch.ones(3)) for _ in range(rank == 0 or rates == "unlike")]
    opt = RMSProp([{"params": params}], rank_local=True, max_grad_norm=1.0)
    for lr in (0.0, 0.1, 0.1):
        opt.param_groups[0]["lr"] = rank * 0.1 if rates == "unlike" else lr
        for p in params:
            p.grad = torch.ones(3)
        scaler = torch.amp.GradScaler("cpu", enabled=scaled)
        scaler.scale(torch.ones(()))
        scaler.step(opt)
    return {int(state["step"]) for state in opt.state.values()} <= {3}


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("rates", ["rising from 0", "unlike"])
def test_ranks_without_work_step_along(rates, scaled):
    assert ranks(2).call(warmed_up, rates, scaled) == [True, True]


def whole_gradients():
    """A step by gradients that are whole on every rank, as torch lets anyone set them."""
    p, q = (nn.Parameter(placed(torch.arange(6.0).view(2, 3))) for _ in range(2))
    opt, twin = RMSProp([p]), RMSProp([q])
    p.grad, q.grad = torch.arange(6.0).view(2, 3), placed(torch.arange(6.0).view(2, 3))
    opt.step()
    twin.step()
    return torch.equal(part(p), part(q))


def test_a_whole_gradient_is_taken_in_parts():
    assert ranks(2).call(whole_gradients) == [True, True]


def misplaced_gradient():
    """What is said to a gradient that lies on another mesh, and whether nothing was stepped."""
    other = DeviceMesh("cpu", torch.arange(dist.get_world_size()).flip(0))
    q, p = (nn.Parameter(placed(torch.ones(4))) for _ in range(2))
    opt = RMSProp([q, p])
    q.grad, p.grad = placed(torch.ones(4)), placed(torch.ones(4), mesh=other)
    try:
        opt.step()
    except ValueError as error:
        return str(error), bool((part(q) == 1).all())
    return "", False


def test_a_gradient_on_another_mesh_is_refused_and_nothing_is_stepped():
    for said, unchanged in ranks(2).call(misplaced_gradient):
        assert said.startswith("RMSProp: the gradient of parameter 1 of group 0 is placed")
        assert unchanged


def transposed(spread_over_ranks):
    """The bits of a bfloat16 weight that is a transposed view, after three steps."""
    source = torch.Generator().manual_seed(0)
    linear = nn.Linear(6, 8, bias=False)
    linear.weight = nn.Parameter(torch.randn(6, 8, generator=source).bfloat16().t())
    if spread_over_ranks:
        parallelize_module(linear, spread.world(), ColwiseParallel())
    p = linear.weight
    opt = RMSProp([p], momentum=0.9)
    for _ in range(3):
        g = torch.randn(8, 6, generator=source).bfloat16()
        p.grad = placed(g) if spread_over_ranks else g
        opt.step()
    return spread.bytes_of(p)


def test_a_part_that_lies_otherwise_in_memory_is_rounded_like_its_whole():
    p = torch.frombuffer(bytearray(transposed(False)), dtype=torch.bfloat16)
    for got in ranks(2).call(transposed, True):
        # The whole is numbered as it lies, which is by columns; its part lies by rows.
        assert torch.allclose(torch.frombuffer(bytearray(got), dtype=torch.bfloat16), p, rtol=2**-6)


def looked_at():
    p = nn.Parameter(placed(torch.ones(4)))
    opt = RMSProp([p], momentum=0.9, centered=True)
    p.grad = placed(torch.full((4,), torch.nan))
    opt.step()
    return [finding.hazard for finding in doctor(opt)]


def test_the_doctor_looks_at_this_ranks_part():
    for hazards in ranks(2).call(looked_at):
        assert hazards


def outside_a_mesh():
    """Whether a whole state loads on ranks, of which two have none of a parameter."""
    mesh = DeviceMesh("cpu", [0, 1])
    p = nn.Parameter(placed(torch.ones(2, 2), mesh=mesh))
    whole = RMSProp([nn.Parameter(torch.ones(2, 2))])
    whole.param_groups[0]["params"][0].grad = torch.ones(2, 2)
    whole.step()
    opt = RMSProp([p])
    opt.load_state_dict(whole.state_dict())
    return part(opt.state[p]["square_avg"]).numel()


def test_whole_state_loads_where_a_rank_has_no_part():
    assert ranks(4).call(outside_a_mesh) == [2, 2, 0, 0]


def unlike_meshes(rank_local):
    p = nn.Parameter(placed(torch.ones(4)))
    q = nn.Parameter(placed(torch.ones(4), mesh=DeviceMesh("cpu", [0, 1])))
    groups = [{"params": [p]}, {"params": [q], "rank_local": rank_local}]
    opt = SGD(groups, lr=1.0, max_grad_norm=1.0)
    p.grad, q.grad = placed(torch.ones(4)), torch.zeros_like(q)
    part(q.grad).fill_(2.0)
    if not rank_local and dist.get_rank() < 2:
        return ""  # they would wait for the others
    try:
        opt.step()
    except ValueError as error:
        return str(error)
    return part(p).tolist()


def test_norms_over_meshes_of_other_ranks_are_refused_or_agreed():
    for said in ranks(4).call(unlike_meshes, False)[2:]:
        assert said.startswith("SGD: max_grad_norm needs gradients that this rank lacks, got param")
    kept = ranks(4).call(unlike_meshes, True)
    assert kept == [kept[0]] * 4
    assert kept[0] == pytest.approx([1 - 1 / 20**0.5])  # a norm of sqrt(4*1 + 4*4)


def copied():
    """Whether a deep copy and a hook see what they should."""
    p = nn.Parameter(placed(torch.ones(4)))
    opt, seen = RMSProp([p], momentum=0.9), []
    opt.register_step_post_hook(lambda *_: seen.append(1))
    for _ in range(2):
        p.grad = placed(torch.ones(4))
        opt.step()
    twin = copy.deepcopy(opt)
    (q,) = twin.param_groups[0]["params"]
    q.grad = p.grad = placed(torch.ones(4))
    opt.step()
    twin.step()
    return len(seen), torch.equal(part(p), part(q))


def test_copies_and_hooks_work():
    assert ranks(2).call(copied) == [(3, True), (3, True)]


def test_loss_scales_that_differ_between_ranks_are_refused():
    for told in ranks(2).call(spread.overflowing, "rank_local"):
        assert [step[:2] for step in told[:2]] == [(1, False), (1, True)]
        assert told[2].startswith("RMSProp: the loss scales of the ranks differ")
        assert "call scaler.update() with the least of them" in told[2]


def replicated_sum():
    """Whether a gradient that is yet to be summed stays as it was."""
    mesh = spread.world()
    p = nn.Parameter(placed(torch.ones(4), Replicate()))
    (p.to_local(grad_placements=None) * 1.0).sum().backward()
    before = p.grad.placements
    RMSProp([p]).step()
    return before == p.grad.placements and mesh.size() == 2


def test_the_gradient_is_left_as_it_was():
    assert ranks(2).call(replicated_sum) == [True, True]
