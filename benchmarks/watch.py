"""What watching and guarding cost: whole training steps, plain, watched and guarded, in turn.

python benchmarks/watch.py            on the CPU
python benchmarks/watch.py --gpu      on a GPU
python benchmarks/watch.py --torch    of torch.optim.RMSprop, which has no guards

One model is trained in turn plain, plain again, watched (to a file, as is usual, at every=50) and
watched with its losses told, and a copy of it with each guard: 5 steps of each (49 on a GPU) in an
order of chance, 200 times a round, so that a machine that is now fast and now slow is so for all.
After each change 2 steps are let pass. The watchers live all the time and write their files once a
second. A large model is watched at every=5, and a tenth of what that costs is told: at 50 it is far
below the noise. Medians over the rounds of the ratios to the plain arm in the same round, and
between what they lie, with 95 %.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from scipy.stats import quantile_test
from torch import Tensor, nn

from meansquare import Guard, RMSProp, watch
from meansquare.watching.watcher import Watcher

EVERY, OFTEN = 50, 5
PASSED = 2
WATCHED = ("watched", "with losses")
ARMS = ("plain", "plain again", "watched", "with losses", "guarded", "guarded, rollback")


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(64, 256, 2, batch_first=True)
        self.head = nn.Linear(256, 64)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


def perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    )


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(32 * 16, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(256, 4, 1024, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "network of 64-64-64-10, batch 32": (perceptron, (32, 64)),
    "network of 64-64-64-10, batch 512": (perceptron, (512, 64)),
    "two convolutions, batch 32": (convolutions, (32, 1, 8, 8)),
    "LSTM of 2 x 256, 16 x 32": (Recurrent, (16, 32, 64)),
    "transformer of 4 x 256, 8 x 64": (transformer, (8, 64, 256)),
}


def trainer(make: Callable[[], nn.Module], x: Tensor, rule: Callable[..., Any]) -> Any:
    """An optimizer, and what trains its model for so many steps."""
    torch.manual_seed(0)
    model = make().to(x.device)
    optimizer = rule(model.parameters(), lr=1e-4)
    guard = getattr(optimizer, "guard", None)

    def run(steps: int, tell: Callable[[Tensor], None] | None = None) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            if guard:
                guard.saw(loss)
            optimizer.step()
            if tell:
                tell(loss)
        if x.is_cuda:
            torch.cuda.synchronize()

    return optimizer, run


class Arm:
    """Steps of a trainer with only the hooks that were put on its optimizer for this arm."""

    def __init__(self, optimizer: Any, run: Callable[..., None], watcher: Watcher | None) -> None:
        self._hooks = optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks
        self._own = [hooks.copy() for hooks in self._hooks]
        self._run = run
        self._leave()
        self.watcher = watcher

    def seconds(self, steps: int) -> float:
        for hooks, own in zip(self._hooks, self._own, strict=True):
            hooks.update(own)
        self._run(PASSED)
        began = time.perf_counter()
        self._run(steps)
        took = time.perf_counter() - began
        self._leave()
        return took

    def _leave(self) -> None:
        self._own = [hooks.copy() for hooks in self._hooks]
        for hooks in self._hooks:
            hooks.clear()


def arms_of(
    make: Callable[[], nn.Module], x: Tensor, rule: Callable[..., Any], every: int, folder: Path
) -> dict[str, Arm]:
    optimizer, run = trainer(make, x, rule)
    arms = {one: Arm(optimizer, run, None) for one in ARMS[:2]}
    for one in WATCHED:
        watcher = watch(optimizer, every, to=folder / f"{one}.jsonl")
        own = partial(run, tell=watcher.loss) if one == WATCHED[1] else run
        arms[one] = Arm(optimizer, own, watcher)
    if rule is RMSProp:
        guards = Guard(clip=10.0), Guard(spike="rollback")
        for one, guard in zip(ARMS[4:], guards, strict=True):
            optimizer, run = trainer(make, x, partial(rule, guard=guard))
            arms[one] = Arm(optimizer, run, None)
    return arms


def measure(
    make: Callable[[], nn.Module], x: Tensor, rule: Callable[..., Any], large: bool, rounds: int
) -> dict[str, list[float]]:
    """The times of a step in each arm, by rounds."""
    every, turns = (OFTEN, 10) if large else (EVERY, 200)
    steps = 49 if x.is_cuda else 5  # and those let pass: looks are at any of them in turn
    with tempfile.TemporaryDirectory() as folder:
        arms = arms_of(make, x, rule, every, Path(folder))
        times: dict[str, list[float]] = {one: [] for one in arms}
        for _ in range(rounds):
            took = dict.fromkeys(arms, 0.0)
            for _ in range(turns):
                for one in random.sample([*arms], len(arms)):
                    took[one] += arms[one].seconds(steps) / (turns * steps)
            for one, seconds in took.items():
                times[one].append(seconds)
        for arm in arms.values():
            if arm.watcher:
                arm.watcher.remove()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--torch", action="store_true")
    parser.add_argument("--only", default="", help="models whose name has this")
    parser.add_argument(
        "--rounds", type=int, default=40, help="a tenth of large models, at least 6"
    )
    asked = parser.parse_args()
    rule = torch.optim.RMSprop if asked.torch else RMSProp
    arms = ARMS[1:4] if asked.torch else ARMS[1:]
    print(f"| model | step | {' | '.join(arms)} |")
    print(f"| --- | --- |{' --- |' * len(arms)}")
    for name, (make, shape) in MODELS.items():
        if asked.only not in name:
            continue
        large = "LSTM" in name or "transformer" in name
        x = torch.randn(shape, device="cuda" if asked.gpu else "cpu")
        rounds = max(asked.rounds // 10, 6) if large else asked.rounds
        times = measure(make, x, rule, large, rounds)
        step = statistics.median(times["plain"])
        cells = []
        for one in arms:
            scale = 100 * OFTEN / EVERY if large and one in WATCHED else 100
            ratios = [own / plain for own, plain in zip(times[one], times["plain"], strict=True)]
            low, high = quantile_test(ratios, q=1).confidence_interval()
            more, low, high = (scale * (x - 1) for x in (statistics.median(ratios), low, high))
            cells.append(f"{more:+.1f} % ({low:+.1f} to {high:+.1f})")
        print(f"| {name} | {1e3 * step:.2f} ms | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
