"""`watch` sees every step, changes none, and no file that fails stops training."""

import gc
import math
import weakref

import pytest
import torch
from torch import nn
from watched import network, read, train

import meansquare
from meansquare import SGD, Adam, Guard, RMSProp, watch

KINDS = {
    "RMSProp": lambda params: RMSProp(params, lr=0.01, momentum=0.9, centered=True),
    "bfloat16": lambda params: RMSProp(params, lr=0.01),
    "guarded": lambda params: RMSProp(params, lr=0.01, guard=Guard()),
    "Adam": lambda params: Adam(params),
    "SGD": lambda params: SGD(params, lr=0.1, momentum=0.9, nesterov=True),
    "torch's RMSprop": lambda params: torch.optim.RMSprop(params, lr=0.01),
    "torch's AdamW": lambda params: torch.optim.AdamW(params),
    "torch's Rprop": lambda params: torch.optim.Rprop(params),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_watched_training_is_the_same_bit_for_bit(kind, tmp_path):
    ends = []
    for watched in (False, True):
        model = network()
        if kind == "bfloat16":
            model = model.bfloat16()
            torch.set_default_dtype(torch.bfloat16)
        optimizer = KINDS[kind](model.parameters())
        handle = watch(optimizer, every=2, to=tmp_path / "w.jsonl") if watched else None
        try:
            ends.append(train(model, optimizer, 7, handle.loss if handle else lambda loss: None))
        finally:
            torch.set_default_dtype(torch.float32)
        ends[-1] += [torch.rand(3)]
    assert all(map(torch.equal, *ends))


def test_the_file_has_a_header_losses_and_looks(tmp_path):
    model = network()
    optimizer = RMSProp(model.named_parameters())
    with watch(optimizer, every=3, to=tmp_path / "deep" / "w.jsonl") as watcher:
        train(model, optimizer, 7, watcher.loss)
    header, *lines = read(watcher.path)
    assert header["format"] == "meansquare-watch"
    assert [t["name"] for t in header["tensors"]] == [n for n, _ in model.named_parameters()]
    assert [t["shape"] for t in header["tensors"]] == [list(p.shape) for p in model.parameters()]
    assert [line["step"] for line in lines if line["kind"] == "look"] == [3, 6]
    losses = [line for line in lines if line["kind"] == "losses"]
    assert [(line["first"], len(line["values"])) for line in losses] == [(1, 2), (3, 3), (6, 2)]
    assert all(len(line["tensors"]) == 4 for line in lines if line["kind"] == "look")


def test_a_parameter_without_a_gradient_has_no_numbers(tmp_path):
    p, q = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer, lines = RMSProp([p, q]), []
    watch(optimizer, every=1, to=lines.append)
    q.grad = torch.ones(2)
    optimizer.step()
    assert lines[1]["tensors"][0] is None
    assert lines[1]["tensors"][1]["gradient"] == 1.0


def test_names_are_those_of_the_model_or_of_the_group_and_place():
    model, lines = network(), []
    watch(RMSProp(model.parameters()), to=lines.append)
    watch(RMSProp(model.parameters()), to=lines.append, model=model)
    names = [[tensor["name"] for tensor in line["tensors"]] for line in lines]
    assert names == [["0.0", "0.1", "0.2", "0.3"], [n for n, _ in model.named_parameters()]]


def test_gradients_of_a_scaled_loss_are_measured_unscaled():
    found = []
    for scale in (1.0, 1024.0):
        p = nn.Parameter(torch.ones(2))
        optimizer, lines = RMSProp([p]), []
        watch(optimizer, every=1, to=lines.append)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        scaler.scale((p * torch.tensor([1.0, 2.0])).sum()).backward()
        scaler.step(optimizer)
        found.append(lines[1]["tensors"][0])
    assert found[0] == found[1]


THEIRS = [name for name in torch.optim.__all__ if name[0].isupper() and name != "Optimizer"]


@pytest.mark.parametrize("name", THEIRS)
def test_every_optimizer_of_torch_can_be_watched(name):
    p, lines = nn.Parameter(torch.eye(3)), []
    optimizer = getattr(torch.optim, name)([p], lr=0.01)
    watch(optimizer, every=1, to=lines.append)

    def closure():
        optimizer.zero_grad()
        loss = (p.to_sparse() if name == "SparseAdam" else p).sum()
        loss.backward()
        if name == "SparseAdam":
            p.grad = p.grad.to_sparse()
        return loss

    for _ in range(2):
        optimizer.step(closure)
    assert lines[2]["tensors"][0]["gradient"] == 1.0
    assert lines[2]["tensors"][0]["update"] > 0


def test_events_of_a_guard_are_written_at_their_steps():
    p, lines = nn.Parameter(torch.ones(2)), []
    optimizer = RMSProp([("w", p)], guard=Guard())
    watcher = watch(optimizer, every=50, to=lines.append)
    for gradient in (1.0, math.nan, 1.0):
        p.grad = torch.full((2,), gradient)
        optimizer.step()
    (event,) = lines[1:]
    assert (event["step"], event["batch"], event["action"]) == (2, 1, "skip")
    assert event["layers"] == ["w"]
    watcher.remove()
    assert optimizer.guard.listeners == []


def test_removed_it_sees_no_more_and_has_written_what_it_held():
    model, lines = network(), []
    optimizer = RMSProp(model.parameters())
    watcher = watch(optimizer, every=1, to=lines.append)
    train(model, optimizer, 1, watcher.loss)
    watcher.remove()
    watcher.remove()
    train(model, optimizer, 2)
    assert [line.get("kind") for line in lines] == [None, "look", "losses"]


def test_an_optimizer_is_let_go_of():
    model = network()
    optimizer = RMSProp(model.parameters())
    watcher = watch(optimizer, to=lambda line: None)
    gone = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert gone() is None
    with pytest.raises(RuntimeError, match="watch: its optimizer is gone"):
        watcher.sharpness(lambda: torch.tensor(0.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": 0}, "watch: every must be 1 or more, got 0"),
        ({"every": 1.5}, "watch: every must be an integer, got 1.5"),
        ({"sample": True}, "watch: sample must be an integer, got True"),
        (
            {"to": 3},
            "watch: to must be a path, 'tensorboard:FOLDER', a SummaryWriter or a function",
        ),
    ],
)
def test_what_is_asked_for_wrongly_is_refused_and_nothing_is_hooked(arguments, message):
    optimizer = RMSProp(network().parameters())
    with pytest.raises((TypeError, ValueError), match=message):
        watch(optimizer, **arguments)
    assert not optimizer._optimizer_step_pre_hooks
    with pytest.raises(TypeError, match=r"watch: optimizer must be a torch.optim.Optimizer, got 3"):
        watch(3)  # type: ignore[arg-type]


def test_a_loss_is_what_it_was_when_it_was_told():
    model, lines = network(), []
    watcher = watch(RMSProp(model.parameters()), to=lines.append)
    value = torch.tensor(3.0)
    watcher.loss(value)
    value.fill_(4.0)
    watcher.remove()
    assert lines[-1]["values"] == [3.0]


def test_it_is_public():
    assert meansquare.watch is watch
