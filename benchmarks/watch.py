"""What watching and guarding cost: whole training steps, plain, watched and guarded, in turn.

python benchmarks/watch.py            on the CPU
python benchmarks/watch.py --gpu      on a GPU
python benchmarks/watch.py --torch    of torch.optim.RMSprop, which has no guards

One model is trained in turn plain, plain again, watched (to a file, as is usual, at every=50) and
watched with its losses told, a copy of it with each guard. Ten steps are let pass after each change
and 50 timed (1000 of a small model, in 8 times as many rounds), with the writing of the file. A
large model is watched at every=5 and a tenth of what that costs is told: at 50 it is far below the
noise. Medians over the rounds of the ratios to the plain arm in the same round.
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
from torch import Tensor, nn

from meansquare import Guard, RMSProp, watch
from meansquare.watching.watcher import Watcher

EVERY, OFTEN = 50, 5
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


def seconds(run: Callable[..., None], steps: int, watcher: Watcher | None, tells: bool) -> float:
    """Of a step."""
    tell = watcher.loss if watcher and tells else None
    run(10, tell)
    began = time.perf_counter()
    run(steps, tell)
    if watcher:
        watcher.remove()
    return (time.perf_counter() - began) / steps


def measure(
    make: Callable[[], nn.Module], x: Tensor, rule: Callable[..., Any], large: bool, rounds: int
) -> dict[str, list[float]]:
    """The times of a step in each arm, by rounds."""
    every, steps, rounds = (OFTEN, 50, rounds) if large else (EVERY, 1000, 8 * rounds)
    optimizer, plain = trainer(make, x, rule)
    runs: dict[str, Callable[..., None]] = dict.fromkeys(ARMS[:4], plain)
    if rule is RMSProp:
        guards = Guard(clip=10.0), Guard(spike="rollback")
        for one, guard in zip(ARMS[4:], guards, strict=True):
            runs[one] = trainer(make, x, partial(rule, guard=guard))[1]
    times: dict[str, list[float]] = {one: [] for one in runs}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for one in random.sample([*runs], len(runs)):
                file = Path(folder) / "watch.jsonl"
                watcher = watch(optimizer, every, to=file) if one in WATCHED else None
                times[one].append(seconds(runs[one], steps, watcher, one == WATCHED[1]))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--torch", action="store_true")
    parser.add_argument("--only", default="", help="models whose name has this")
    parser.add_argument("--rounds", type=int, default=6)
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
        times = measure(make, x, rule, large, asked.rounds)
        step = statistics.median(times["plain"])
        more = {one: _ratio(times[one], times["plain"]) - 1 for one in arms}
        if large:
            more |= {one: more[one] * OFTEN / EVERY for one in WATCHED}
        cells = [f"{100 * more[one]:+.1f} %" for one in arms]
        print(f"| {name} | {1e3 * step:.2f} ms | {' | '.join(cells)} |", flush=True)


def _ratio(own: list[float], plain: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(own, plain, strict=True))


if __name__ == "__main__":
    main()
