"""Checkpoints of spread trainings, written and read by torch.distributed.checkpoint."""

import contextlib
import io
import os
import signal
from pathlib import Path
from typing import Any

import spread
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_state_dict,
)

from meansquare import RMSProp
from meansquare.parts import part, place_of

Options = dict[str, Any]


def model_of(dtype: torch.dtype = torch.float32) -> Any:
    """The network, over all ranks where there are some."""
    model = spread.network(dtype)
    with spread.quietly():
        return spread.sharded(model) if dist.is_initialized() else model


def trained(kind: Any, options: Options, steps: int = 3, first: int = 0) -> tuple[Any, Any]:
    model = model_of()
    opt = kind(model.parameters(), **options)
    walk(model, opt, steps, first)
    return model, opt


def walk(model: Any, opt: Any, steps: int, first: int = 0) -> None:
    """Some steps by gradients that depend on the step alone."""
    for t in range(first, first + steps):
        source = torch.Generator().manual_seed(t)
        for p in model.parameters():
            whole = torch.randn(p.shape, generator=source)
            p.grad = torch.zeros_like(p)
            part(p.grad).copy_(slice_of(whole, p))
        opt.step()


def slice_of(whole: torch.Tensor, p: Any) -> torch.Tensor:
    """What this rank has of it; FSDP2 gives each a chunk of rows."""
    rows = place_of(p)
    if rows is None:
        return whole
    width = max(1, whole[0].numel())
    first, count = rows.first // width, part(p).shape[0]
    return whole[first : first + count]


def save(folder: str, kind: Any, options: Options, flat: bool = False) -> None:
    model, opt = trained(kind, options)
    write(folder, model, opt, flat)


def write(folder: str, model: Any, opt: Any, flat: bool = False) -> None:
    with spread.quietly():
        parts = get_state_dict(model, opt, options=how(flat))
        dcp.save(dict(zip(("model", "optimizer"), parts, strict=True)), checkpoint_id=folder)


def how(flat: bool) -> StateDictOptions:
    return StateDictOptions(flatten_optimizer_state_dict=flat)


def read(folder: str, model: Any, opt: Any, flat: bool = False, partly: bool = False) -> None:
    with spread.quietly():
        names = ("model", "optimizer")
        held = dict(zip(names, get_state_dict(model, opt, options=how(flat)), strict=True))
        planner = dcp.DefaultLoadPlanner(allow_partial_load=partly)
        dcp.load(held, checkpoint_id=folder, planner=planner)
        given = {"model_state_dict": held["model"], "optim_state_dict": held["optimizer"]}
        set_state_dict(model, opt, options=how(flat), **given)


def load(
    folder: str, kind: Any, options: Options, flat: bool = False, partly: bool = False
) -> tuple[list[dict], list[dict[str, tuple[int, bytes]]], list[bytes]]:
    """Of a new optimizer that a checkpoint was read into: its groups without their parameters, of
    each parameter the state by name, and all parameters after two steps more.
    """
    model = model_of()
    opt = kind(model.parameters(), **options)
    read(folder, model, opt, flat, partly)
    groups = [{k: v for k, v in group.items() if k != "params"} for group in opt.param_groups]
    state = [described(p, opt.state[p]) for p in model.parameters()]
    walk(model, opt, 2, first=3)
    return groups, state, [spread.bytes_of(p) for p in model.parameters()]


def described(p: Any, state: dict[str, Any]) -> dict[str, tuple[int, bytes]]:
    """Of each tensor of a state: where this rank's part begins, and its bytes."""
    place = place_of(p)
    found = {}
    for name, value in state.items():
        assert getattr(value, "placements", None) == (
            None if name == "step" else getattr(p, "placements", None)
        )
        own = part(value).contiguous().flatten().view(torch.uint8).numpy().tobytes()
        found[name] = (place.first if place and name != "step" else 0, own)
    return found


def save_and_die(folder: str, kind: Any, options: Options) -> str:
    """Save; but rank 1 is killed once its file is written and before it says so."""
    model, opt = trained(kind, options)
    if dist.get_rank() == 1:
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
    try:
        write(folder, model, opt)
    except Exception as error:
        return type(error).__name__
    return "saved"


def shares(folder: str) -> list[dict[str, Any]]:
    """torch.save of this rank's state dict, read back as data."""
    _, opt = trained(RMSProp, {"lr": 1e-2, "momentum": 0.9})
    path = Path(folder) / f"rank{dist.get_rank()}.pt"
    torch.save(opt.state_dict(), path)
    again = torch.load(path, weights_only=True)
    fresh = RMSProp(model_of().parameters(), lr=1.0)
    fresh.load_state_dict(again)
    pairs = zip(opt.param_groups[0]["params"], fresh.param_groups[0]["params"], strict=True)
    return [described(p, opt.state[p]) == described(q, fresh.state[q]) for p, q in pairs]


def from_whole(path: str) -> tuple[list[Any], list[bytes]]:
    """A file of one process, read into an optimizer of parameters over all ranks."""
    held = torch.load(path, weights_only=True)
    model = model_of()
    for p, whole in zip(model.parameters(), held["params"], strict=True):
        part(p).data.copy_(slice_of(whole, p))
    opt = RMSProp(model.parameters(), lr=1.0)
    opt.load_state_dict(held["optimizer"])
    state = [described(p, opt.state[p]) for p in model.parameters()]
    walk(model, opt, 2, first=3)
    return state, [spread.bytes_of(p) for p in model.parameters()]


def refused() -> tuple[str, bool]:
    """What one says to the state of parameters that are distributed, and if it is as before."""
    _, opt = trained(RMSProp, {"lr": 1e-2})
    plain = RMSProp(spread.network(torch.float32).parameters(), lr=9.0)
    try:
        plain.load_state_dict(opt.state_dict())
    except TypeError as error:
        return str(error), not plain.state and plain.param_groups[0]["lr"] == 9.0
    return "", False


def mended() -> bool:
    """Whether a step takes a state that was set by hand, whole on every rank."""
    model, opt = trained(RMSProp, {"lr": 1e-2})
    other, twin = trained(RMSProp, {"lr": 1e-2})
    for p in model.parameters():
        opt.state[p]["square_avg"] = opt.state[p]["square_avg"].full_tensor()
    for each, stepped in ((model, opt), (other, twin)):
        walk(each, stepped, 1, first=3)
    placed = all(opt.state[p]["square_avg"].placements == p.placements for p in model.parameters())
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    return placed and all(spread.bytes_of(p) == spread.bytes_of(q) for p, q in pairs)


def explained() -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        trained(RMSProp, {"lr": 1e-2})[1].explain()
    return out.getvalue()
