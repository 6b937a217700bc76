"""Time a step of parameters that FSDP2 has spread over processes, beside torch's own.

torchrun --nproc-per-node 2 benchmarks/distributed.py
"""

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from timing import LR, Step, Workload, conditions, in_turn, ratio, transformer
from torch import nn, optim
from torch.distributed.fsdp import fully_shard

from meansquare import RMSProp
from meansquare.parts import part

CLIP = 1e9  # is reached by no gradient, so that every round does the same work


def spread() -> Workload:
    model = transformer()
    fully_shard(model)
    params: list[Any] = [*model.parameters()]
    for p in params:
        p.grad = torch.zeros_like(p)
        part(p.grad).normal_()
    count = sum(p.numel() for p in params)
    name = f"{count / 1e6:.0f} M floats, {len(params)} tensors"
    return Workload(name, params, train=dist.barrier)  # so that no arm waits for the one before


def clipped(params: list[Any], step: Step) -> Step:
    def run() -> None:
        nn.utils.clip_grad_norm_(params, CLIP)
        step()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    workload = spread()
    params = workload.params
    torch_step = optim.RMSprop(params, lr=LR, foreach=True).step
    tables: dict[str, dict[str, Callable[[], Any]]] = {
        "plain": {
            "ours": RMSProp(params, lr=LR).step,
            "torch foreach": torch_step,
        },
        "limited norm": {
            "ours, max_grad_norm": RMSProp(params, lr=LR, max_grad_norm=CLIP).step,
            "torch, clip_grad_norm_ and foreach": clipped(params, torch_step),
        },
    }
    lines = [f"{dist.get_world_size()} processes; {conditions(rounds)}", ""]
    lines += ["| step of FSDP2's shards | workload | ms | of ours |", "|---|---|--:|--:|"]
    for arms in tables.values():
        times = in_turn(workload, arms, rounds)
        ours = next(iter(times.values()))
        for name, took in times.items():
            cells = (name, workload.name, f"{statistics.median(took):.3g}", ratio(took, ours))
            lines.append(f"| {' | '.join(cells)} |")
    if dist.get_rank() == 0:
        print("\n".join(lines))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
