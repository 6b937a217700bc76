"""Time a step within a graph of torch.compile, and what memory it takes at its peak.

The same settings step the same tensors eagerly, compiled, and compiled by torch; then a whole
training step is compiled while its learning rate changes, and its graphs are counted.
"""

import argparse
import logging
import statistics
from collections.abc import Callable
from typing import Any

import torch
from family import PEAK, peaks
from timing import LR, Workload, conditions, in_turn, perceptron, ratio, tensors
from torch import nn, optim
from torch._dynamo.utils import counters

from meansquare import RMSProp

WORKLOADS: dict[str, Callable[[], Workload]] = {
    "small": lambda: Workload("10 k floats, 10 tensors", tensors([1000] * 10), repeats=20),
    "large": lambda: Workload("20 M floats, 20 tensors", tensors([1_000_000] * 20)),
}
STEP = (
    PEAK
    + """
params = tensors([1_000_000] * 20)
print(f"{{max(0.0, peak({make})):.0f}}")
"""
)


def times(rounds: int, names: list[str]) -> None:
    print("\n| step | workload | ms | of ours, eager |\n|---|---|--:|--:|")
    for name in names:
        workload = WORKLOADS[name]()
        settings: dict[str, Any] = {"lr": LR, "momentum": 0.9}
        arms = {
            "ours, eager": RMSProp(workload.params, **settings).step,
            "ours, compiled": torch.compile(RMSProp(workload.params, **settings).step),
            "torch, compiled": torch.compile(optim.RMSprop(workload.params, **settings).step),
        }
        took = in_turn(workload, arms, rounds)
        for arm, each in took.items():
            cells = (arm, workload.name, f"{statistics.median(each):.3g}")
            print(f"| {' | '.join(cells)} | {ratio(each, took['ours, eager'])} |", flush=True)


def memory() -> None:
    makers = {
        "ours, eager": "meansquare.RMSProp(params, momentum=0.9).step",
        "ours, compiled": "torch.compile(meansquare.RMSProp(params, momentum=0.9).step)",
        "torch, compiled": "torch.compile(optim.RMSprop(params, momentum=0.9).step)",
    }
    peaks(STEP, makers)


def graphs(steps: int = 8) -> None:
    """Graphs of a training step whose learning rate, alpha and momentum change in every step."""
    print(f"\n| {steps} training steps, other settings in each | graphs | breaks |\n|---|--:|--:|")
    kinds: dict[str, Any] = {"ours": RMSProp, "torch": optim.RMSprop}
    for name, kind in kinds.items():
        torch._dynamo.reset()
        counters.clear()
        model, x = perceptron(8, 8, 8), torch.randn(4, 8)
        opt = kind(model.parameters(), lr=LR, momentum=0.9)

        def train(model: nn.Module = model, opt: Any = opt, x: torch.Tensor = x) -> None:
            opt.zero_grad()
            model(x).sum().backward()
            opt.step()

        compiled = torch.compile(train)
        for t in range(steps):
            changed = {"lr": LR / (t + 1), "alpha": 0.9 - t / 100, "momentum": 0.9 - t / 100}
            opt.param_groups[0].update(changed)
            compiled()
        breaks = sum(counters["graph_break"].values())
        print(f"| {name} | {counters['stats']['unique_graphs']} | {breaks} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("workloads", nargs="*", choices=[*WORKLOADS, []], metavar="WORKLOAD")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)  # that it gives up recompiling
    print(conditions(options.rounds))
    times(options.rounds, options.workloads or list(WORKLOADS))
    if not options.workloads:
        memory()
        graphs()


if __name__ == "__main__":
    main()
