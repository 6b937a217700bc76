"""Handwritten digits: the 1,797 scanned 8x8 images that ship with scikit-learn, and a small CNN."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn

from meansquare.lab.tasks import Facts, Split, SplitName

SPLIT_SEED = 0
TRAIN, VALIDATION = 1077, 360


class Digits:
    """Ten classes, images standardised with the training split's mean and deviation."""

    def __init__(self, images: Tensor, targets: Tensor) -> None:
        order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(SPLIT_SEED))
        train, validation, test = order.tensor_split([TRAIN, TRAIN + VALIDATION])
        mean, deviation = images[train].mean(), images[train].std()
        pixels = ((images - mean) / deviation).unsqueeze(1)
        self._splits: dict[SplitName, Split] = {
            "train": Split(pixels[train], targets[train]),
            "validation": Split(pixels[validation], targets[validation]),
            "test": Split(pixels[test], targets[test]),
        }

    @property
    def facts(self) -> Facts:
        return Facts(
            name="digits",
            title="Handwritten digits",
            model="CNN: two 3x3 convolutions (8 and 16 channels), max-pooling, one linear layer",
            parameters=sum(weight.numel() for weight in self.model().parameters()),
            batch_size=32,
            sizes={name: len(split.targets) for name, split in self._splits.items()},
            metric="test accuracy",
            unit="%",
            higher_is_better=True,
            baselines=self._baselines(),
            notes="1,797 scanned 8x8 images (scikit-learn's digits), split at random with a fixed "
            "seed, standardised with the training split's mean and deviation, cross-entropy loss.",
        )

    def model(self) -> nn.Module:
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

    def split(self, name: SplitName) -> Split:
        return self._splits[name]

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(output, target)

    def metric(self, output: Tensor, target: Tensor) -> float:
        return 100.0 * int((output.argmax(1) == target).sum()) / len(target)

    def _baselines(self) -> dict[str, float]:
        train, test = self._splits["train"], self._splits["test"]
        neighbours = KNeighborsClassifier(1).fit(train.inputs.flatten(1), train.targets)
        return {
            "always the commonest digit": 100.0
            * float((test.targets == train.targets.mode().values).double().mean()),
            "nearest neighbour on pixels": 100.0
            * float(neighbours.score(test.inputs.flatten(1), test.targets)),
        }


def load() -> Digits:
    """The task with scikit-learn's digits in it."""
    pixels, targets = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).unflatten(1, (8, 8))
    return Digits(images, torch.tensor(targets))
