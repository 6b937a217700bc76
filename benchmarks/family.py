"""Time every member of the family: beside torch's best arm and the floor of its own memory traffic.

python benchmarks/family.py [--rounds N] [TABLE ...]

One table per workload: bytes that a parameter's step moves, our median time in milliseconds, and
how many times as long the floor (the same bytes moved, next to nothing computed) and torch's best
arm took in the same round: the median, and the 10th percentile in brackets. Then what groups,
schedules and clipping cost, and how much memory a step takes beside what it steps.
"""

import argparse
import inspect
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    training,
    transformer,
)
from torch import Tensor, optim
from torch.nn.utils import clip_grad_norm_

from meansquare import SGD, AdaGrad, Adam, AdamW, RMSProp, Rprop, SignSGD


@dataclass(frozen=True)
class Member:
    name: str
    kind: Any
    namesake: Any
    options: dict[str, Any]

    @property
    def buffers(self) -> int:
        hyper = self.kind._kind.checked(self.options, self.kind.__name__)
        return len(hyper.rule.buffers)

    @property
    def moved(self) -> int:
        """Bytes of a float32 parameter's step: it and its buffers read and written, g read."""
        return 12 + 8 * self.buffers

    def arms(self, params: list[Tensor]) -> Mapping[str, Step]:
        """Ours, the floor, and every way in which torch can do the same."""
        both: dict[str, Any] = {"lr": LR} | self.options
        steps = {"ours": self.kind(params, **both).step, "floor": floor(params, self.buffers)}
        if self.namesake is None:
            return steps
        known = inspect.signature(self.namesake).parameters
        for way in ("foreach", "fused"):
            if way in known and not (way == "fused" and self.namesake is optim.RMSprop):
                steps[way] = self.namesake(params, **both, **{way: True}).step
        return steps | {"plain": self.namesake(params, **both, foreach=False).step}


MEMBERS = (
    Member("gradient descent", SGD, optim.SGD, {}),
    Member("Momentum", SGD, optim.SGD, {"momentum": 0.9}),
    Member("Nesterov", SGD, optim.SGD, {"momentum": 0.9, "nesterov": True}),
    Member("AdaGrad", AdaGrad, optim.Adagrad, {}),
    Member("RMSProp", RMSProp, optim.RMSprop, {}),
    Member("RMSProp, momentum", RMSProp, optim.RMSprop, {"momentum": 0.9}),
    Member("RMSProp, centered", RMSProp, optim.RMSprop, {"centered": True}),
    Member("RMSProp, both", RMSProp, optim.RMSprop, {"momentum": 0.9, "centered": True}),
    Member("Adam", Adam, optim.Adam, {}),
    Member("AdamW", AdamW, optim.AdamW, {}),
    Member("AMSGrad", Adam, optim.Adam, {"amsgrad": True}),
    Member("Rprop", Rprop, optim.Rprop, {}),
    Member("sign descent", SignSGD, None, {}),
)

WORKLOADS: dict[str, Callable[[], Workload]] = {
    "20x1M": lambda: Workload("20 M floats, 20 tensors", tensors([1_000_000] * 20)),
    "1M": lambda: Workload("1 M floats, 1 tensor", tensors([1_000_000]), repeats=20),
    "120x92k": lambda: Workload("11 M floats, 120 tensors", tensors([92_000] * 120)),
    "1000x256": lambda: Workload("1000 tensors of 256", tensors([256] * 1000), repeats=5),
    "6": lambda: Workload("6 small tensors", tensors([128, 16, 256, 16, 32, 2]), repeats=100),
    "120-train": lambda: training(
        transformer(), torch.randn(4, 16, 304), "11 M floats, 120 tensors"
    ),
    "1M-train": lambda: training(
        perceptron(784, 1024, 256, 10), torch.randn(64, 784), "1 M floats, 6 tensors"
    ),
}


def member_row(member: Member, workload: Workload, rounds: int) -> str:
    times = in_turn(workload, member.arms(workload.params), rounds)
    ours, under = times.pop("ours"), times.pop("floor")
    best = min(times, key=lambda way: statistics.median(times[way]), default=None)
    torchs = f"{ratio(times[best], ours)} {best}" if best else "has none"
    return (
        f"| {member.name} | {member.moved} | {statistics.median(ours):.3g} "
        f"| {ratio(under, ours)} | {torchs} |"
    )


def members(workload: Workload, rounds: int) -> None:
    print(f"\n| {workload.name} | bytes | ms | floor | torch's best |\n|---|--:|--:|--:|--:|")
    for member in MEMBERS:
        print(member_row(member, workload, rounds), flush=True)


def separate(params: list[Tensor]) -> list[dict[str, Any]]:
    """A group for each tensor; four rules among them, each with numbers of its own."""
    switches: tuple[dict[str, Any], ...] = (
        {},
        {"momentum": 0.9},
        {"centered": True},
        {"eps_place": "inside"},
    )
    return [{"params": [p], "lr": LR * (1 + i), **switches[i % 4]} for i, p in enumerate(params)]


def scheduled(params: list[Tensor]) -> Step:
    opt = RMSProp(params, lr=LR)
    (group,) = opt.param_groups

    def step() -> None:
        group["lr"] *= 0.999999
        opt.step()

    return step


def after_clipping(params: list[Tensor], opt: optim.Optimizer) -> Step:
    def step() -> None:
        clip_grad_norm_(params, 1e9)
        opt.step()

    return step


def scaled(opt: RMSProp) -> Step:
    """As in the hands of a GradScaler, with a scale of one, so that gradients stay as they are."""
    opt.grad_scale, opt.found_inf = torch.ones(()), torch.zeros(())  # type: ignore[attr-defined]
    return opt.step


def costs(rounds: int) -> None:
    """What options cost: each as a multiple of plain RMSProp in the same round."""
    many = Workload("465 tensors of 1000", tensors([1000] * 465), repeats=20)
    large = Workload("20 M floats, 20 tensors", tensors([1_000_000] * 20))
    small = Workload("6 small tensors", tensors([128, 16, 256, 16, 32, 2]), repeats=100)
    rows: list[tuple[str, Workload, Callable[[list[Tensor]], Step]]] = [
        ("one group", many, lambda p: RMSProp([{"params": p}], lr=LR).step),
        ("465 groups of four kinds", many, lambda p: RMSProp(separate(p)).step),
        ("a new learning rate in each step", small, scheduled),
        ("clip_value", large, lambda p: RMSProp(p, lr=LR, clip_value=1.0).step),
        ("max_grad_norm", large, lambda p: RMSProp(p, lr=LR, max_grad_norm=1e9).step),
        ("clip_grad_norm_, then our step", large, lambda p: after_clipping(p, RMSProp(p, lr=LR))),
        ("max_update_rms", large, lambda p: RMSProp(p, lr=LR, max_update_rms=1e9).step),
        ("momentum", large, lambda p: RMSProp(p, lr=LR, momentum=0.9).step),
        (
            "momentum, cautious",
            large,
            lambda p: RMSProp(p, lr=LR, momentum=0.9, cautious=True).step,
        ),
        ("a loss scale, unscaled in the pass", large, lambda p: scaled(RMSProp(p, lr=LR))),
    ]
    print("\n| option | workload | ms | of plain RMSProp |\n|---|---|--:|--:|")
    for name, workload, make in rows:
        arms = {"plain": RMSProp(workload.params, lr=LR).step, "this": make(workload.params)}
        times = in_turn(workload, arms, rounds)
        took = statistics.median(times["this"])
        cells = (name, workload.name, f"{took:.3g}", ratio(times["this"], times["plain"]))
        print(f"| {' | '.join(cells)} |", flush=True)


PEAK = """
import re, sys
from pathlib import Path
sys.path.insert(0, {folder!r})
import torch
from torch import nn, optim
from timing import perceptron, tensors
import meansquare
status = lambda key: int(re.search(key + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
def peak(run):
    run(); run()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    before = status("VmRSS")
    run()
    return (status("VmHWM") - before) / 1024
"""
STEP = (
    PEAK
    + """
params = tensors([1_000_000] * 20)
print(f"{{peak({make}.step):.0f}}")
"""
)
TRAIN = (
    PEAK
    + """
model, inputs = perceptron(*[1024] * 21), torch.randn(16, 1024)
opt = meansquare.RMSProp(model.parameters(), lr=1e-6)
{prepare}
def run():
    model(inputs).sum().backward()
    opt.step()
    opt.zero_grad()
print(f"{{max(0.0, peak(run)):.0f}}")
"""
)


def in_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def peaks(code: str, makers: dict[str, str]) -> None:
    """Megabytes at the peak of a step, each in a process of its own."""
    folder = str(Path(__file__).parent)
    print("\n| a step of 20 M floats (80 MB) | MB at its peak |\n|---|--:|")
    for name, make in makers.items():
        print(f"| {name} | {in_process(code.format(folder=folder, make=make))} |", flush=True)


def memory(rounds: int) -> None:
    """Megabytes that a step takes at its peak, beside what was there before it."""
    folder = str(Path(__file__).parent)
    makers = {
        "RMSProp": "meansquare.RMSProp(params)",
        "RMSProp, momentum, centered": "meansquare.RMSProp(params, momentum=0.9, centered=True)",
        "RMSProp, max_grad_norm, max_update_rms": (
            "meansquare.RMSProp(params, max_grad_norm=1.0, max_update_rms=1.0)"
        ),
        "Adam": "meansquare.Adam(params)",
        "torch RMSprop": "optim.RMSprop(params, foreach=False)",
        "torch RMSprop foreach": "optim.RMSprop(params, foreach=True)",
        "torch Adam fused": "optim.Adam(params, fused=True)",
    }
    peaks(STEP, makers)
    ways = {"step() after backward": "", "step_in_backward()": "opt.step_in_backward()"}
    print("\n| forward, backward and step of 20 layers (84 MB) | MB at its peak |\n|---|--:|")
    for name, prepare in ways.items():
        code = TRAIN.format(folder=folder, prepare=prepare)
        print(f"| {name} | {in_process(code)} |", flush=True)


def main() -> None:
    others: dict[str, Callable[[int], None]] = {"costs": costs, "memory": memory}
    known = [*WORKLOADS, *others]
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("tables", nargs="*", choices=[*known, []], metavar="TABLE")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    print(conditions(options.rounds))
    for name in options.tables or known:
        if name in WORKLOADS:
            members(WORKLOADS[name](), options.rounds)
        else:
            others[name](options.rounds)


if __name__ == "__main__":
    main()
