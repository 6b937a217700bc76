"""Time one optimizer step: meansquare beside every RMSProp that torch can offer, and the floor.

python benchmarks/step.py [--rounds N] [WORKLOAD ...]

All arms of a workload are interleaved in one run, since machines and their neighbours differ.
A row gives our median time in milliseconds and, for every other arm, how many times as long it
took in the same round: the median of that ratio and, in brackets, its 10th percentile. The floor
moves the same memory as plain RMSProp (v += g; p -= lr*g, in the same threads) and computes next to
nothing. A second table tells how many times as long each arm takes in conditions that slow it down.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from timing import (
    LR,
    Step,
    Workload,
    conditions,
    floor,
    in_turn,
    perceptron,
    ratio,
    tensors,
    time_once,
    training,
    transformer,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from meansquare import RMSProp


class Pictures(Dataset):
    """Pictures that each take a worker some milliseconds to make."""

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, i: int) -> Tensor:
        picture = torch.randn(3, 224, 224, generator=torch.Generator().manual_seed(i))
        return (picture - picture.mean()) / picture.std()


def beside_workers() -> tuple[Workload, Workload]:
    """Two workers make batches: none is wanted at first, then one is taken before each step."""
    batches = iter(DataLoader(Pictures(), batch_size=16, num_workers=2))
    params = tensors([1_000_000])
    name, repeats = "1 M floats, beside 2 data-loader workers", 20
    idle = Workload("1 M floats", params, lambda: time.sleep(0.3), repeats)
    return idle, Workload(name, params, lambda: next(batches), repeats)


def gone_subnormal() -> tuple[Workload, Workload]:
    """Gradients of ordinary size, and such that their squares are no normal numbers."""
    ordinary, tiny = tensors([1_000_000]), tensors([1_000_000])
    for p in tiny:
        p.grad = torch.full_like(p, 1e-20)
    name = "1 M floats, second moment subnormal"
    return Workload("1 M floats", ordinary), Workload(name, tiny)


WORKLOADS: dict[str, Callable[[], Workload]] = {
    "50M": lambda: Workload("50 M floats, 1 tensor", tensors([50_000_000])),
    "20x1M": lambda: Workload("20 M floats, 20 tensors", tensors([1_000_000] * 20)),
    "4M": lambda: Workload("4 M floats, 1 tensor", tensors([4_000_000])),
    "1M": lambda: Workload("1 M floats, 1 tensor", tensors([1_000_000]), repeats=20),
    "120x92k": lambda: Workload("11 M floats, 120 tensors", tensors([92_000] * 120)),
    "1000x256": lambda: Workload("1000 tensors of 256", tensors([256] * 1000), repeats=20),
    "6": lambda: Workload("6 small tensors", tensors([128, 16, 256, 16, 32, 2]), repeats=100),
    "120-train": lambda: training(
        transformer(), torch.randn(4, 16, 304), "11 M floats, 120 tensors"
    ),
    "1M-train": lambda: training(
        perceptron(784, 1024, 256, 10), torch.randn(64, 784), "1 M floats, 6 tensors"
    ),
    "6-train": lambda: training(perceptron(8, 16, 16, 2), torch.randn(1, 8), "6 small tensors"),
}


class Subclassed(nn.Parameter):
    """Stepped by torch operations, whatever the optimizer."""


def one_of_a_subclass() -> tuple[Workload, Workload]:
    """All tensors plain, and one more that no fused kernel takes."""
    ordinary, mixed = tensors([1000] * 160), tensors([1000] * 160)
    mixed.append(Subclassed(torch.randn(10)))
    mixed[-1].grad = torch.randn(10)
    name = "160 tensors of 1000, and one of a subclass"
    return Workload("160 tensors", ordinary, repeats=20), Workload(name, mixed, repeats=20)


SLOW_DOWNS: dict[str, Callable[[], tuple[Workload, Workload]]] = {
    "subnormal": gone_subnormal,
    "workers": beside_workers,
    "subclass": one_of_a_subclass,
}


def arms(params: list[Tensor]) -> dict[str, Step]:
    optim = torch.optim
    return {
        "meansquare, ms": RMSProp(params, lr=LR).step,
        "floor": floor(params),
        "RMSprop": optim.RMSprop(params, lr=LR).step,
        "RMSprop foreach": optim.RMSprop(params, lr=LR, foreach=True).step,
        "`_fused_adam_` as RMSprop": fused_adam_trick(params),
        "Adagrad fused": optim.Adagrad(params, lr=LR, fused=True).step,
        "Adam fused": optim.Adam(params, lr=LR, fused=True).step,
        "SGD momentum fused": optim.SGD(params, lr=LR, momentum=0.9, fused=True).step,
    }


def fused_adam_trick(params: list[Tensor]) -> Step:
    """torch's fused Adam with beta1 = 0 and its first moment aliased to the gradient."""
    squares = [torch.zeros_like(p) for p in params]
    steps = [torch.tensor(1e9) for _ in params]

    @torch.no_grad()
    def step() -> None:
        grads = [p.grad for p in params if p.grad is not None]
        torch._fused_adam_(  # pyright: ignore[reportPrivateImportUsage]
            params,
            grads,
            grads,
            squares,
            [],
            steps,
            lr=LR,
            beta1=0.0,
            beta2=0.99,
            weight_decay=0.0,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )

    return step


def row(workload: Workload, rounds: int) -> str:
    ours, *others = in_turn(workload, arms(workload.params), rounds).values()
    cells = [workload.name, f"{statistics.median(ours):.3g}"]
    return f"| {' | '.join([*cells, *(ratio(own, ours) for own in others)])} |"


def slow_down(works: tuple[Workload, Workload], rounds: int) -> str:
    """A row of how many times as long each arm takes in the second of two conditions."""
    both = [(work, arms(work.params)) for work in works]
    ratios: dict[str, list[float]] = {name: [] for name in both[0][1]}
    for turn in range(-3, rounds):
        for name, own in ratios.items():
            usual, slower = (time_once(work, steps[name]) for work, steps in both)
            if turn >= 0:
                own.append(slower / usual)
    cells = [f"{statistics.median(own):.2f}" for own in ratios.values()]
    return f"| {works[1].name} | {' | '.join(cells)} |"


def head(title: str) -> str:
    names = [*arms(tensors([1]))]
    names[0] = "meansquare" if title == "slow-down" else names[0]
    return f"\n| {title} | {' | '.join(names)} |\n|---|{'--:|' * len(names)}"


def main() -> None:
    known = [*WORKLOADS, *SLOW_DOWNS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("workloads", nargs="*", choices=[*known, []], metavar="WORKLOAD")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    asked = options.workloads or known
    print(conditions(options.rounds))
    for title, names, printed in (
        ("workload", WORKLOADS, lambda work: row(work, options.rounds)),
        ("slow-down", SLOW_DOWNS, lambda works: slow_down(works, options.rounds)),
    ):
        wanted = [name for name in asked if name in names]
        if wanted:
            print(head(title))
        for name in wanted:
            print(printed(names[name]()), flush=True)


if __name__ == "__main__":
    main()
