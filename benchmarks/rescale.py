"""Another batch size by `opt.rescale`, by a linear learning rate, and as it was: do curves agree?

python benchmarks/rescale.py                          the table
python benchmarks/rescale.py --picture FILE.png       and the curves

A 64-64-64-10 tanh network on scikit-learn's digits, RMSProp with bias correction (lr 3e-4, alpha
0.999) in batches of 4, against batches of 16 and 64, by samples; means of the logarithm of the
held-out loss over five seeds.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from meansquare import RMSProp

BASE, SIZES, SEEDS, EPOCHS, LOOKS = 4, (16, 64), range(5), 12, 6
ARMS = ("square root", "linear", "unscaled")


def curve(size: int, arm: str, seed: int) -> list[float]:
    """The logarithms of the held-out loss, LOOKS times an epoch."""
    torch.set_num_threads(1)
    pixels, digits = load_digits(return_X_y=True)
    inputs, targets = torch.tensor(pixels / 16.0, dtype=torch.float32), torch.tensor(digits)
    train, held_out = slice(0, 1344), slice(1344, None)
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10)
    )
    optimizer = RMSProp(model.parameters(), lr=3e-4, alpha=0.999, bias_correction=True)
    if arm == "square root":
        optimizer.rescale(BASE, size)
    elif arm == "linear":
        optimizer.param_groups[0]["lr"] *= size / BASE
    told = []
    for _ in range(EPOCHS):
        order = torch.randperm(1344)
        for part in order.chunk(LOOKS):
            for batch in part.split(size):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(inputs[train][batch]), targets[batch])
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                loss = nn.functional.cross_entropy(model(inputs[held_out]), targets[held_out])
            told.append(float(loss.log()))
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", type=Path)
    asked = parser.parse_args()
    rows = [(BASE, "unscaled"), *product(SIZES, ARMS)]
    every = [(size, arm, seed) for size, arm in rows for seed in SEEDS]
    with ProcessPoolExecutor(2) as pool:
        told = [*pool.map(curve, *zip(*every, strict=True))]
    curves = {row: np.mean(told[5 * i : 5 * i + 5], axis=0) for i, row in enumerate(rows)}
    base = curves[BASE, "unscaled"]
    print(f"| batch {BASE} to | {' | '.join(ARMS)} |")
    print(f"| --- |{' --- |' * len(ARMS)}")
    for size in SIZES:
        apart = [np.abs(curves[size, arm] - base) for arm in ARMS]
        print(f"| {size} | {' | '.join(f'{a.mean():.2f}, at most {a.max():.2f}' for a in apart)} |")
    if asked.picture:
        draw(curves, asked.picture)


def draw(curves: dict[tuple[int, str], np.ndarray], place: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, places = plt.subplots(1, len(ARMS), figsize=(9.6, 3.0), sharey=True)
    samples = np.arange(1, LOOKS * EPOCHS + 1) * (1344 / LOOKS)
    for axes, arm in zip(places, ARMS, strict=True):
        axes.plot(samples, curves[BASE, "unscaled"], "k", label=f"batch {BASE}")
        for size, color in zip(SIZES, ("#0072b2", "#d55e00"), strict=True):
            axes.plot(samples, curves[size, arm], color=color, label=f"batch {size}")
        axes.set(title=arm, xlabel="samples")
    places[0].set_ylabel("log of the held-out loss")
    places[0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(place, dpi=110)


if __name__ == "__main__":
    main()
