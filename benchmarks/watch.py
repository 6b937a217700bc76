"""What watching and guarding cost: whole training steps, plain, watched and guarded, in turn.

python benchmarks/watch.py            on the CPU
python benchmarks/watch.py --gpu      on a GPU

Each arm trains its own copy of a model for 50 steps, one of which is looked at (every=50), in
turn with the others; the medians over the rounds of the ratios to the plain arm in the same round.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from meansquare import Guard, RMSProp, watch

EVERY = 50
ARMS = ("plain", "plain again", "watched", "guarded", "guarded, rollback")


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


def arm(name: str, make: Callable[[], nn.Module], x: Tensor) -> Callable[[], None]:
    """Trains for EVERY steps."""
    torch.manual_seed(0)
    model = make().to(x.device)
    guards = {"guarded": Guard(clip=10.0), "guarded, rollback": Guard(spike="rollback")}
    optimizer = RMSProp(model.parameters(), lr=1e-4, guard=guards.get(name))
    if name == "watched":
        watch(optimizer, every=EVERY, to=lambda line: None)

    def run() -> None:
        for _ in range(EVERY):
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            if optimizer.guard:
                optimizer.guard.saw(loss)
            optimizer.step()
        if x.is_cuda:
            torch.cuda.synchronize()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--rounds", type=int, default=31)
    asked = parser.parse_args()
    device = "cuda" if asked.gpu else "cpu"
    print(f"| model | step | {' | '.join(ARMS[1:])} |")
    print(f"| --- |{' --- |' * len(ARMS)}")
    for name, (make, shape) in MODELS.items():
        arms = {one: arm(one, make, torch.randn(shape, device=device)) for one in ARMS}
        times: dict[str, list[float]] = {one: [] for one in ARMS}
        slow = "LSTM" in name or "transformer" in name
        for _ in range(asked.rounds // 6 if slow else asked.rounds):
            for one, run in arms.items():
                began = time.perf_counter()
                run()
                times[one].append((time.perf_counter() - began) / EVERY)
        step = statistics.median(times["plain"])
        cells = [
            f"{100 * (statistics.median(map(_ratio, times[one], times['plain'])) - 1):+.1f} %"
            for one in ARMS[1:]
        ]
        print(f"| {name} | {1e3 * step:.2f} ms | {' | '.join(cells)} |", flush=True)


def _ratio(one: float, other: float) -> float:
    return one / other


if __name__ == "__main__":
    main()
