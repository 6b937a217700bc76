"""MNIST-1D (Greydanus & Kobak 2024): ten made-up signals of 40 values, and a small CNN or GRU."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from mnist1d.data import get_dataset_args, make_dataset
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from meansquare.lab.tasks import Facts, Kind
from meansquare.lab.tasks.supervised import Split, SplitName, Supervised, accuracy, count

TRAIN = 3200  # of the generator's 4,000 training signals; the others are for validation


class LastState(nn.Module):
    """A GRU over a signal, one value a step, with a linear readout of its last state."""

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.recurrent = nn.GRU(1, hidden, batch_first=True)
        self.readout = nn.Linear(hidden, 10)

    def forward(self, signals: Tensor) -> Tensor:
        return self.readout(self.recurrent(signals.transpose(1, 2))[0][:, -1])


def convolutions() -> nn.Module:
    """The CNN of the data set's authors."""
    return nn.Sequential(
        nn.Conv1d(1, 25, 5, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv1d(25, 25, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv1d(25, 25, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(125, 10),
    )


class Network(NamedTuple):
    """What differs between the two tasks."""

    title: str
    kind: Kind
    description: str
    build: Callable[[], nn.Module]
    batch_size: int
    target: float


NETWORKS = {
    "mnist1d": Network(
        "MNIST-1D with convolutions",
        "cnn",
        "CNN: three convolutions over time (25 channels, stride 2), one linear layer",
        convolutions,
        32,
        85.0,
    ),
    "mnist1d-gru": Network(
        "MNIST-1D with a recurrent network",
        "rnn",
        "GRU with 32 units over 40 steps of one value, linear readout of its last state",
        LastState,
        64,
        50.0,
    ),
}


def load(name: str) -> Supervised:
    """The task with the signals in it, made by the data set's own generator with its own seed."""
    network, splits = NETWORKS[name], _splits()
    facts = Facts(
        name=name,
        title=network.title,
        kind=network.kind,
        model=network.description,
        parameters=count(network.build()),
        batch_size=network.batch_size,
        sizes={part: len(split.targets) for part, split in splits.items()},
        metric="test accuracy",
        unit="%",
        higher_is_better=True,
        baselines=_baselines(splits["train"], splits["test"]),
        target=network.target,
        notes="5,000 made signals of ten classes from the generator of the package mnist1d, with "
        "its own settings and seed: ten templates that are padded, scaled, shifted, sheared and "
        "made noisy (Greydanus & Kobak 2024, Scaling Down Deep Learning with MNIST-1D). Its 1,000 "
        f"test signals are the test; the last {4000 - TRAIN} of its training signals, which come "
        "in random order, are for validation. Cross-entropy loss.",
    )
    return Supervised(facts, network.build, splits, nn.functional.cross_entropy, accuracy)


def _splits() -> dict[SplitName, Split]:
    with _global_randomness_kept():
        data = make_dataset(get_dataset_args())
    train, test = _examples(data["x"], data["y"]), _examples(data["x_test"], data["y_test"])
    return {
        "train": Split(train.inputs[:TRAIN], train.targets[:TRAIN]),
        "validation": Split(train.inputs[TRAIN:], train.targets[TRAIN:]),
        "test": test,
    }


def _examples(signals: np.ndarray, classes: np.ndarray) -> Split:
    return Split(torch.tensor(signals, dtype=torch.float32).unsqueeze(1), torch.tensor(classes))


@contextmanager
def _global_randomness_kept() -> Iterator[None]:
    # The generator seeds both of these and draws from numpy's.
    of_numpy, of_python = np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        np.random.set_state(of_numpy)
        random.setstate(of_python)


def _baselines(train: Split, test: Split) -> dict[str, float]:
    signals, wanted = test.inputs.flatten(1), test.targets
    linear = LogisticRegression(solver="newton-cg").fit(train.inputs.flatten(1), train.targets)
    commonest: Tensor = wanted == train.targets.mode().values
    return {
        "always the commonest class": 100.0 * float(commonest.double().mean()),
        "logistic regression": 100.0 * float(linear.score(signals, wanted)),
    }
