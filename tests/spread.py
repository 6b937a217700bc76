"""One small training, done by one process and in every way that torch spreads it over several."""

import contextlib
import copy
import functools
import warnings
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel
from twins import kernels_of

from meansquare import RMSProp
from meansquare.kernels import cpu
from meansquare.parts import part

BATCH, STEPS = 8, 8
WIDTHS = (6, 10, 3)  # over 4 ranks: 10 are 3, 3, 3 and 1, and 3 leave a rank without any


def network(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    inner, hidden, outer = WIDTHS
    layers = nn.Linear(inner, hidden), nn.LayerNorm(hidden), nn.Tanh(), nn.Linear(hidden, outer)
    return nn.Sequential(*layers).to(dtype)


def batches(dtype: torch.dtype = torch.float64) -> Iterable[tuple[Tensor, Tensor]]:
    source = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        x = torch.randn(BATCH, 4, WIDTHS[0], generator=source, dtype=dtype)
        yield x, x[..., : WIDTHS[-1]]


def own_share(x: Tensor) -> Tensor:
    """The part of a batch that this rank trains on."""
    return x.chunk(dist.get_world_size())[dist.get_rank()]


def everything(x: Tensor) -> Tensor:
    return x


def mesh(*shape: int) -> Any:
    names = ("rows", "columns")[: len(shape)]
    return init_device_mesh("cpu", shape, mesh_dim_names=names)


def world() -> Any:
    return mesh(dist.get_world_size())


def sharded(model: nn.Module, on: Any = None, **options: Any) -> nn.Module:
    on = on or world()
    for layer in (model[0], model[1], model[3]):  # type: ignore[index]
        fully_shard(layer, mesh=on, **options)
    return fully_shard(model, mesh=on, **options)


def tensor_parallel(model: nn.Module, on: Any = None) -> nn.Module:
    how = {
        "0": ColwiseParallel(output_layouts=Shard(1)),
        "1": SequenceParallel(),
        "3": RowwiseParallel(input_layouts=Shard(1)),
    }
    return parallelize_module(model, on or world(), how)


def sharded_and_parallel(model: nn.Module) -> nn.Module:
    both = mesh(2, dist.get_world_size() // 2)
    return sharded(tensor_parallel(model, both["columns"]), both["rows"])


def share_of_rows(x: Tensor) -> Tensor:
    return x.chunk(2)[dist.get_rank() // (dist.get_world_size() // 2)]


def ddp(model: nn.Module, **options: Any) -> nn.Module:
    return DistributedDataParallel(model, **options)


WAYS: dict[str, tuple[Any, Any]] = {  # how a model is spread, and what a rank sees of a batch
    "DDP": (ddp, own_share),
    "DDP, gradients as views of buckets": (
        functools.partial(ddp, gradient_as_bucket_view=True),
        own_share,
    ),
    "ZeroRedundancyOptimizer": (ddp, own_share),
    "FSDP2": (sharded, own_share),
    "FSDP2, offloaded": (
        functools.partial(sharded, offload_policy=CPUOffloadPolicy(pin_memory=False)),
        own_share,
    ),
    "tensor parallel": (tensor_parallel, everything),
    "FSDP2 over tensor parallel": (sharded_and_parallel, share_of_rows),
    "FSDP2 with replicas": (
        lambda model: sharded(model, mesh(2, dist.get_world_size() // 2)),
        own_share,
    ),
}
MIXED = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)


def optimizer_of(way: str, model: nn.Module, kind: Any, options: dict[str, Any]) -> Any:
    if way == "ZeroRedundancyOptimizer":
        from torch.distributed.optim import ZeroRedundancyOptimizer  # warns when it is imported

        options = options | ({"rank_local": True} if "max_grad_norm" in options else {})
        return ZeroRedundancyOptimizer(model.parameters(), optimizer_class=kind, **options)
    return kind(model.parameters(), **options)


@contextlib.contextmanager
def quietly():
    """Without what torch says of its own ways."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def losses(model: nn.Module, opt: Any, share: Any = everything, dtype: Any = torch.float64) -> list:
    """The mean loss of each step, over all ranks where there are some."""
    told = []
    for x, y in batches(dtype):
        opt.zero_grad()
        loss = (model(share(x)).to(dtype) - share(y)).square().mean()
        loss.backward()
        opt.step()
        mean = loss.detach()
        mean = mean.full_tensor() if isinstance(mean, DTensor) else mean.clone()
        if dist.is_initialized():
            dist.all_reduce(mean)
            mean /= dist.get_world_size()
        told.append(mean.item())
    return told


def alone(kind: Any, options: dict[str, Any]) -> list[float]:
    model = network()
    return losses(model, kind(model.parameters(), **options))


def together(way: str, kind: Any, options: dict[str, Any]) -> tuple[list[float], list[bytes]]:
    """The losses, and this rank's parameters as bytes."""
    spread, share = WAYS[way]
    with quietly():
        model = spread(network())
        opt = optimizer_of(way, model, kind, options)
        told = losses(model, opt, share)
    return told, [bytes_of(p) for p in model.parameters()]


def mixed(size: int) -> list[float]:
    """The losses of FSDP2 that computes in bfloat16, in rows of so many ranks that do the same."""
    on = mesh(dist.get_world_size() // size, size)["columns"]
    with quietly():
        model = sharded(network(torch.float32), on, mp_policy=MIXED)
        opt = RMSProp(model.parameters(), lr=1e-2, momentum=0.9)
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        share = lambda x: x.chunk(size)[dist.get_rank() % size]  # noqa: E731
        return losses(model, opt, share, torch.float32)


PLACED = {  # how a tensor is placed over a mesh of 4, or of 2 x 2
    "rows": ((4,), [Shard(0)]),
    "columns": ((4,), [Shard(1)]),
    "replicated": ((4,), [Replicate()]),
    "rows of columns": ((2, 2), [Shard(0), Shard(1)]),
    "columns of rows": ((2, 2), [Shard(1), Shard(0)]),
    "rows twice": ((2, 2), [Shard(0), Shard(0)]),
    "replicated rows": ((2, 2), [Replicate(), Shard(0)]),
}
SHAPES = {"even": (8, 12), "uneven": (7, 5), "with empty parts": (3, 2), "cube": (5, 6, 3)}


def stepped(
    placed: str | None, shape: str, dtype: torch.dtype, kind: Any, options: dict[str, Any]
) -> list[bytes]:
    """A parameter and its state after three steps by given gradients, gathered from all ranks."""
    source = torch.Generator().manual_seed(0)
    first, *gradients = (torch.randn(SHAPES[shape], generator=source).to(dtype) for _ in range(4))
    spread = lambda t: t.clone()  # noqa: E731
    if placed:
        on, placements = mesh(*PLACED[placed][0]), PLACED[placed][1]
        spread = lambda t: distribute_tensor(t.clone(), on, placements)  # noqa: E731
    p = nn.Parameter(spread(first))
    opt = kind([p], **options)
    for g in gradients:
        p.grad = spread(g)
        opt.step()
    assert kernels_of(opt) == {"cpu" if cpu.native else "reference"}
    held = [value for name, value in opt.state[p].items() if name != "step"]
    if placed:
        assert all(t.placements == p.placements for t in held)
        assert all(t.shape == p.shape for t in held)
    return [bytes_of(t) for t in (p, *held)]


def stepped_by_torch(*arguments: Any) -> list[bytes]:
    """The same without the C++ kernels."""
    native, cpu.native = cpu.native, None
    try:
        with quietly():
            return stepped(*arguments)
    finally:
        cpu.native = native


def with_an_expert(options: dict[str, Any], both: bool, alone: bool) -> list[bytes]:
    """Parameters after three steps, one of which only the last rank has, or one process both.

    The options are of both, or of the one that not every rank has.
    """
    source = torch.Generator().manual_seed(0)
    shared, own = (torch.randn(5, generator=source, dtype=torch.float64) for _ in range(2))
    mine = alone or dist.get_rank() == dist.get_world_size() - 1
    p = nn.Parameter(shared if alone else distribute_tensor(shared, world(), [Shard(0)]))
    experts = [nn.Parameter(own)] if mine else []
    groups = [{"params": [p]}, {"params": experts, "rank_local": not alone, **options}]
    opt = RMSProp(groups, **(options if both else {}))
    for _ in range(3):
        g, h = (torch.randn(5, generator=source, dtype=torch.float64) for _ in range(2))
        p.grad = g if alone else distribute_tensor(g, world(), [Shard(0)])
        for expert in experts:
            expert.grad = h
        opt.step()
    return [bytes_of(t) for t in (p, *experts)]


def overflowing(way: str) -> list[Any]:
    """Of three steps under a GradScaler, of which the second overflows on the last rank: the count
    of steps, whether the parameters are as they were, and the scale; and what an error says.
    """
    model = sharded(network(torch.float32)) if way == "FSDP2" else network(torch.float32)
    settings = {"rank_local": way != "FSDP2"}
    opt, scaler = RMSProp(model.parameters(), **settings), torch.amp.GradScaler("cpu", 1024.0)
    told = []
    for t in range(3):
        for p in model.parameters():
            p.grad = torch.full_like(p, 1024.0)
        own = [part(p.grad) for p in model.parameters() if part(p).numel()]
        if t == 1 and dist.get_rank() == dist.get_world_size() - 1:
            own[-1].view(-1)[-1] = torch.inf
        before = [part(p).clone() for p in model.parameters()]
        scaler.scale(torch.ones(()))
        try:
            scaler.step(opt)
        except RuntimeError as error:
            return [*told, str(error)]
        scaler.update()
        count = {int(state["step"]) for state in opt.state.values()}
        same = all(map(torch.equal, before, map(part, model.parameters())))
        told.append((*count, same, scaler.get_scale()))
    return told


def bytes_of(t: Any) -> bytes:
    t = t.detach().full_tensor() if isinstance(t, DTensor) else t.detach()
    return copy.deepcopy(t).contiguous().flatten().view(torch.uint8).numpy().tobytes()
