"""Handwritten digits: the 1,797 scanned 8x8 images that ship with scikit-learn, and a small CNN."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn

from meansquare.lab.tasks import Facts
from meansquare.lab.tasks.supervised import Split, Supervised, accuracy, count, split_at_random

SPLIT_SEED = 0
TRAIN, VALIDATION = 1077, 360


def load(name: str) -> Supervised:
    """The task with scikit-learn's digits in it."""
    pixels, targets = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).unflatten(1, (1, 8, 8))
    splits = split_at_random(Split(images, torch.tensor(targets)), TRAIN, VALIDATION, SPLIT_SEED)
    facts = Facts(
        name=name,
        title="Handwritten digits",
        kind="cnn",
        model="CNN: two 3x3 convolutions (8 and 16 channels), max-pooling, one linear layer",
        parameters=count(_model()),
        batch_size=32,
        sizes={part: len(split.targets) for part, split in splits.items()},
        metric="test accuracy",
        unit="%",
        higher_is_better=True,
        baselines=baselines(splits["train"], splits["test"]),
        target=97.0,
        notes="1,797 scanned 8x8 images (scikit-learn's digits), split at random with a fixed "
        "seed, standardised with the training split's mean and deviation, cross-entropy loss.",
    )
    return Supervised(facts, _model, splits, nn.functional.cross_entropy, accuracy)


def _model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def baselines(train: Split, test: Split) -> dict[str, float]:
    """Per cent that two methods without a network get right."""
    neighbours = KNeighborsClassifier(1).fit(train.inputs.flatten(1), train.targets)
    commonest: Tensor = test.targets == train.targets.mode().values
    return {
        "always the commonest digit": 100.0 * float(commonest.double().mean()),
        "nearest neighbour on pixels": 100.0
        * float(neighbours.score(test.inputs.flatten(1), test.targets)),
    }
