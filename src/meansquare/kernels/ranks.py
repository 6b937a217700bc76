"""What ranks agree on before a step writes: sums over the parts of tensors, and whether to step.

Numbers of all ranks are gathered and added in the order of the ranks, in double precision, so that
every rank has the same sums bit for bit.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist

from meansquare.kernels.places import Place
from meansquare.parts import is_distributed


def spread(groups: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a sum over the parameters of some groups takes more than this rank."""
    return any(
        group.get("rank_local") or any(map(is_distributed, group["params"])) for group in groups
    )


def over_parts(sums: Mapping[int, float], places: Sequence[Place]) -> dict[int, float]:
    """The sum of each parameter (by number) over all of its parts. Every rank is to ask for it."""
    whole = {place.ordinal: sums.get(place.ordinal, 0.0) for place in places}
    by_mesh: dict[Any, list[int]] = defaultdict(list)
    for place in places:
        p: Any = place.parameter
        if is_distributed(p) and p.device_mesh.get_coordinate() is not None:
            dims = tuple(i for i, how in enumerate(p.placements) if not how.is_replicate())
            by_mesh[p.device_mesh, dims].append(place.ordinal)
    for (mesh, dims), numbers in by_mesh.items():
        values = [whole[n] for n in numbers]
        for dim in dims:
            values = _added(values, mesh.get_group(dim))
        whole |= zip(numbers, values, strict=True)
    return whole


def total(
    whole: Mapping[int, float], places: Sequence[Place], groups: Sequence[Mapping[str, Any]]
) -> float:
    """The sum over parameters of what `over_parts` gave, and over ranks where they have others."""
    here = sum(
        whole[place.ordinal] for place in places if not groups[place.group].get("rank_local")
    )
    if not any(group.get("rank_local") for group in groups):
        return here
    own = [place for place in places if groups[place.group].get("rank_local")]
    return here + over_ranks(sum(whole[place.ordinal] for place in own if _counts(place.parameter)))


def _counts(p: Any) -> bool:
    """Whether this rank is the one among those that have a tensor to count it."""
    return not is_distributed(p) or not any(p.device_mesh.get_coordinate() or [1])


def over_ranks(value: float) -> float:
    """The sum of a number over all ranks."""
    if not has_ranks():
        return value
    return _added([value], dist.group.WORLD)[0]


def on_any(flag: bool, groups: Sequence[Mapping[str, Any]]) -> bool:
    """Whether it is so on any of the ranks that step together."""
    meshes = {p.device_mesh: None for group in groups for p in group["params"] if is_distributed(p)}
    count = float(flag)
    for mesh in meshes:
        for dim in range(mesh.ndim if mesh.get_coordinate() is not None else 0):
            (count,) = _added([count], mesh.get_group(dim))
    if any(group.get("rank_local") for group in groups):
        count = over_ranks(count)
    return count > 0


def agreed(loss: float | None, norm: float, broken: bool) -> tuple[float | None, float, bool]:
    """The mean of the losses that ranks know, the largest norm, and whether any is broken."""
    known = [0.0, 0.0] if loss is None else [1.0, loss]
    every = _gathered([*known, norm, float(broken)], dist.group.WORLD)
    told = sum(row[0] for row in every)
    mean = sum(row[1] for row in every) / told if told else None
    return mean, max(row[2] for row in every), any(row[3] for row in every)


def _added(values: Sequence[float], group: Any) -> list[float]:
    return [sum(column) for column in zip(*_gathered(values, group), strict=True)]


def _gathered(values: Sequence[float], group: Any) -> list[list[float]]:
    """The numbers of every rank, of which each has as many."""
    from torch.distributed.distributed_c10d import get_backend_config  # not in every build

    takes_cpu = "cpu:" in get_backend_config(group)
    device = "cpu" if takes_cpu else torch.accelerator.current_accelerator()
    mine = torch.tensor(values, dtype=torch.float64, device=device)
    every = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
    dist.all_gather(every, mine, group=group)
    return [one.tolist() for one in every]


def check_alike(unscale: float, groups: Sequence[Mapping[str, Any]]) -> None:
    """Refuse loss scales that differ between ranks. Whether a scale overflowed, torch compares only
    between ranks that share a DTensor.
    """
    if not any(group.get("rank_local") for group in groups) or not has_ranks():
        return
    every = [one for (one,) in _gathered([unscale], dist.group.WORLD)]
    if len(set(every)) > 1:
        scales = ", ".join(f"{1 / one:g}" for one in every)
        raise RuntimeError(
            f"the loss scales of the ranks differ after an overflow, got {scales}; "
            "call scaler.update() with the least of them on every rank"
        )


def check_meshes(places: Sequence[Place], groups: Sequence[Mapping[str, Any]]) -> None:
    """Refuse to limit a norm of which other ranks see more than this one."""
    for place in places:
        p: Any = place.parameter
        lacks = is_distributed(p) and p.device_mesh.get_coordinate() is None
        if lacks and not groups[place.group].get("rank_local"):
            raise ValueError(
                "max_grad_norm needs gradients that this rank lacks, "
                f"got {place.name} on a mesh of other ranks; set rank_local=True in its group"
            )


def has_ranks() -> bool:
    return dist.is_available() and dist.is_initialized()
