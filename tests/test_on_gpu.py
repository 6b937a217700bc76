"""On a GPU as on the CPU: what is watched, guarded and suggested there."""

import math

import pytest
import torch
from torch import nn

from meansquare import Adam, Guard, RMSProp, suggest_lr, watch
from meansquare.step_size import Prodigy
from meansquare.watching.sharpness import sharpness

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
CLOSE = 1e-3  # relative: float32 sums of a GPU in another order, over some dozen steps


def network(device):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Dropout(0.2), nn.Linear(32, 1))
    return model.to(device)


def batch_of(step, device):
    draws = torch.Generator().manual_seed(step)
    return torch.randn(16, 6, generator=draws).to(device)


def loss_of(model, x):
    return (model(x) - x.sum(1, keepdim=True)).square().mean()


def train(model, optimizer, steps, device="cuda", spoil=()):
    for step in range(steps):
        optimizer.zero_grad()
        loss = loss_of(model, batch_of(step, device))
        loss.backward()
        if step in spoil:
            next(model.parameters()).grad[0, 0] = math.nan
        if optimizer.guard:
            optimizer.guard.saw(loss)
        optimizer.step()
    return [p.detach().cpu() for p in model.parameters()]


@pytest.mark.parametrize("made", [RMSProp, Adam])
def test_a_watched_training_is_the_same_bit_for_bit(made):
    ends = []
    for watched in (False, True):
        model, lines = network("cuda"), []
        optimizer = made(model.parameters(), lr=0.01)
        if watched:
            watch(optimizer, every=2, to=lines.append)
        ends.append(train(model, optimizer, 9))
    assert all(map(torch.equal, *ends))


def test_what_is_measured_is_what_the_cpu_measures():
    seen = {}
    for device in ("cpu", "cuda"):
        model, lines = network(device).eval(), []
        optimizer = RMSProp(model.parameters(), lr=0.01)
        watch(optimizer, every=5, to=lines.append, sample=None)
        train(model, optimizer, 5, device)
        seen[device] = lines[1]["tensors"]
    for here, there in zip(*seen.values(), strict=True):
        for name, value in here.items():
            assert there[name] == pytest.approx(value, rel=CLOSE), name


def test_losses_are_what_they_were_when_they_were_told_wherever_they_lie():
    optimizer, lines = RMSProp([nn.Parameter(torch.ones(2))]), []
    with watch(optimizer, to=lines.append) as watcher:
        loss = torch.ones((), device="cuda", dtype=torch.float64)
        for value in (loss, 0.5, loss.bfloat16(), torch.ones(1), loss):
            watcher.loss(value)
            loss *= 3
        with pytest.raises(RuntimeError, match="Scalar"):
            watcher.loss(torch.ones(2, device="cuda"))
    assert lines[1]["values"] == [1.0, 0.5, 1.0, 1.0, 81.0]


def test_tensors_of_several_dtypes_and_what_is_not_finite_are_told_as_on_the_cpu():
    dtypes = torch.float32, torch.bfloat16, torch.float64, torch.complex64
    told = {}
    for device in ("cpu", "cuda"):
        params = [nn.Parameter(torch.ones(40, 5, dtype=dtype, device=device)) for dtype in dtypes]
        params.append(nn.Parameter(torch.ones(0, device=device)))
        optimizer, lines = torch.optim.RMSprop(params, lr=0.1), []
        watch(optimizer, every=1, to=lines.append, sample=50)
        for p in params:
            p.grad = torch.ones_like(p)
        params[1].grad[3, 3] = math.nan
        optimizer.step()
        told[device] = lines[1]["tensors"]
    assert [seen and seen["nonfinite"] for seen in told["cuda"]] == [0, 3, 0, 0, None]
    for here, there in zip(*told.values(), strict=True):
        for name, value in (here or {}).items():
            assert there[name] == pytest.approx(value, rel=CLOSE, nan_ok=True), name


def test_a_broken_step_is_skipped_and_a_rollback_sets_the_gpus_random_state_back():
    model = network("cuda")
    optimizer = RMSProp(model.parameters(), lr=0.01, guard=Guard())
    before = train(model, optimizer, 1)
    assert all(map(torch.equal, before, train(model, optimizer, 1, spoil=(0,))))
    guard = Guard(spike="rollback", patience=1, snapshot_every=1, snapshot_age=1, keep=1)
    optimizer = RMSProp(model.parameters(), lr=0.01, guard=guard)
    train(model, optimizer, 3)
    expected = torch.rand(2, device="cuda")
    train(model.eval(), optimizer, 1, spoil=(0,))
    assert [event.action for event in guard.events] == ["rollback"]
    assert torch.equal(torch.rand(2, device="cuda"), expected)


def test_sharpness_prodigy_and_the_suggestion_are_those_of_the_cpu():
    found = {}
    for device in ("cpu", "cuda"):
        model = network(device).eval()
        optimizer = RMSProp(model.parameters(), lr=0.01)
        train(model, optimizer, 5, device)
        x = batch_of(99, device)
        edge = sharpness(optimizer, lambda model=model, x=x: loss_of(model, x)).edge
        batches = [batch_of(i, device) for i in range(8)]
        lr = suggest_lr(model, optimizer, loss_of, batches, method="both", seeds=1, steps=40).lr
        free = RMSProp(model.parameters())
        prodigy = Prodigy(free)
        train(model, free, 20, device)
        found[device] = (edge, lr, prodigy.d)
    assert found["cuda"][0] == pytest.approx(found["cpu"][0], rel=CLOSE)
    # A step of the range test is a factor of 1.5: the same one is to be chosen.
    assert found["cuda"][1] == pytest.approx(found["cpu"][1], rel=0.02)
    assert found["cuda"][2] == pytest.approx(found["cpu"][2], rel=0.02)


def test_asking_for_a_rate_leaves_the_gpus_random_state():
    model = network("cuda")
    optimizer = RMSProp(model.parameters(), lr=0.01)
    torch.manual_seed(4)
    expected = torch.rand(2, device="cuda")
    torch.manual_seed(4)
    suggest_lr(model, optimizer, loss_of, [batch_of(0, "cuda")], seeds=1, steps=5, warmup=2)
    assert torch.equal(torch.rand(2, device="cuda"), expected)
