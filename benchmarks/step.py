"""Time one optimizer step: meansquare beside every RMSProp that torch can offer, and the floor.

python benchmarks/step.py [--rounds N] [WORKLOAD ...]

All arms of a workload are interleaved in one run, since machines and their neighbours differ.
A row gives our median time in milliseconds and, for every other arm, how many times as long it
took in the same round: the median of that ratio and, in brackets, its 10th percentile. The floor
moves the same memory as plain RMSProp (v += g; p -= lr*g, in the same threads) and computes next to
nothing. A second table tells how many times as long each arm takes in conditions that slow it down.
"""

import argparse
import itertools
import math
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from meansquare import RMSProp, __version__
from meansquare.kernels import cpu

Step = Callable[[], object]
LR = 1e-6  # parameters hardly move, so that every round does the same work


@dataclass(frozen=True)
class Workload:
    """Parameters with gradients; `train` comes before each timed step, as to make them anew."""

    name: str
    params: list[Tensor]
    train: Step | None = None
    repeats: int = 1


def tensors(sizes: list[int]) -> list[Tensor]:
    torch.manual_seed(0)
    params: list[Tensor] = [nn.Parameter(torch.randn(size)) for size in sizes]
    for p in params:
        p.grad = torch.randn_like(p)
    return params


def training(model: nn.Module, inputs: Tensor, name: str) -> Workload:
    params: list[Tensor] = [*model.parameters()]
    direction = torch.randn_like(model(inputs))

    def train() -> None:
        for p in params:
            p.grad = None
        (model(inputs) * direction).sum().backward()

    train()
    return Workload(f"{name}, in training", params, train)


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


def perceptron(*widths: int) -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for wide, narrow in itertools.pairwise(widths):
        layers += [nn.Linear(wide, narrow), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def transformer() -> nn.Module:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(304, 8, 1216, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 10)


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


def floor(params: list[Tensor]) -> Step:
    plan = cpu.native.Plan([[(p, type(p) is not Subclassed) for p in params]])
    cpu.native.set_group(plan, 0, "floor_1", ["square_avg"], 0, LR, math.inf, math.inf, [], [])
    groups = [{"params": params, "lr": LR}]
    state = {
        p: {
            "step": torch.zeros((), dtype=torch.float64),
            "square_avg": torch.zeros_like(p, requires_grad=False),
        }
        for p in params
    }

    def step() -> None:
        threads = torch.get_num_threads()
        assert cpu.native.step(plan, groups, state, threads, lambda _: None, 0.0, -1) == -1

    return step


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


def time_once(workload: Workload, step: Step) -> float:
    """Milliseconds of one step."""
    if workload.train:
        workload.train()
    begin = time.perf_counter()
    for _ in range(workload.repeats):
        step()
    return (time.perf_counter() - begin) / workload.repeats * 1e3


def measure(workload: Workload, rounds: int) -> dict[str, list[float]]:
    steps = arms(workload.params)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(-3, rounds):
        for name, step in steps.items():
            took = time_once(workload, step)
            if turn >= 0:
                times[name].append(took)
    return times


def row(workload: Workload, times: dict[str, list[float]]) -> str:
    ours, *others = times.values()
    cells = [workload.name, f"{statistics.median(ours):.3g}"]
    for own in others:
        ratios = sorted(a / b for a, b in zip(own, ours, strict=True))
        cells.append(f"{statistics.median(ratios):.2f} ({ratios[len(ratios) // 10]:.2f})")
    return f"| {' | '.join(cells)} |"


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
    isa = cpu.native.instruction_set()
    print(
        f"meansquare {__version__} ({isa}), torch {torch.__version__}, float32, "
        f"{torch.get_num_threads()} threads of {os.cpu_count()} cores, {platform.machine()}; "
        f"{options.rounds} interleaved rounds; GPU: not measured"
    )
    for title, names, printed in (
        ("workload", WORKLOADS, lambda work: row(work, measure(work, options.rounds))),
        ("slow-down", SLOW_DOWNS, lambda works: slow_down(works, options.rounds)),
    ):
        wanted = [name for name in asked if name in names]
        if wanted:
            print(head(title))
        for name in wanted:
            print(printed(names[name]()), flush=True)


if __name__ == "__main__":
    main()
