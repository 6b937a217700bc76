"""What the benchmarks share: workloads, and arms that are timed in turn."""

import itertools
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from meansquare import __version__
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


def time_once(workload: Workload, step: Step) -> float:
    """Milliseconds of one step."""
    if workload.train:
        workload.train()
    begin = time.perf_counter()
    for _ in range(workload.repeats):
        step()
    return (time.perf_counter() - begin) / workload.repeats * 1e3


def in_turn(workload: Workload, arms: Mapping[str, Step], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of a step of each arm in each round, after some to warm up."""
    times: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(-3, rounds):
        for name, step in arms.items():
            took = time_once(workload, step)
            if turn >= 0:
                times[name].append(took)
    return times


def ratio(times: Sequence[float], unit: Sequence[float]) -> str:
    """How many times as long as another arm in the same round: median and 10th percentile."""
    ratios = sorted(a / b for a, b in zip(times, unit, strict=True))
    return f"{statistics.median(ratios):.2f} ({ratios[len(ratios) // 10]:.2f})"


def floor(params: Sequence[Tensor], buffers: int = 1) -> Step:
    """Moves the memory of a rule with so many buffers, in the same threads, and adds it up."""
    names = [f"s{i}" for i in range(buffers)]
    plan = cpu.native.Plan([[(p, type(p) in (Tensor, nn.Parameter)) for p in params]])
    cpu.native.set_group(
        plan, 0, f"floor_{buffers}", names, 0, LR, float("inf"), 0.0, float("inf"), [], []
    )
    groups = [{"params": list(params), "lr": LR}]
    state = {
        p: {name: torch.zeros_like(p, requires_grad=False) for name in names}
        | {"step": torch.zeros((), dtype=torch.float64)}
        for p in params
    }

    def step() -> None:
        threads = torch.get_num_threads()
        what = (plan, groups, state, threads, lambda _: None, [])
        assert cpu.native.step(*what, 0.0, False, 1.0, -1, []) == -1

    return step


def conditions(rounds: int) -> str:
    """Where and how the figures of a run are measured."""
    return (
        f"meansquare {__version__} ({cpu.native.instruction_set()}), torch {torch.__version__}, "
        f"float32, {torch.get_num_threads()} threads of {os.cpu_count()} cores, "
        f"{platform.machine()}; {rounds} interleaved rounds; GPU: not measured"
    )
