"""Fine-tuning: a CNN that reads the digits 0 to 4 learns 5 to 9 from a hundred images of them."""

from __future__ import annotations

import copy
from functools import partial

import torch
from sklearn.datasets import load_digits
from torch import nn

from meansquare.lab.tasks import Facts
from meansquare.lab.tasks.digits import baselines
from meansquare.lab.tasks.supervised import Split, Supervised, accuracy, count, split_at_random

SEED = 0  # of the splits and of the network that is fine-tuned
TRAIN, VALIDATION = 100, 300
OLD_CLASSES = 5
OLD_EPOCHS, OLD_BATCH, OLD_RATE = 10, 32, 3e-3


def load(name: str) -> Supervised:
    """The task, with a network trained on the digits 0 to 4 (in about half a second)."""
    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).unflatten(1, (1, 8, 8)) / 16.0
    targets = torch.tensor(labels)
    old = targets < OLD_CLASSES
    trained = _trained(Split(images[old], targets[old]))
    new = Split(images[~old], targets[~old] - OLD_CLASSES)
    splits = split_at_random(new, TRAIN, VALIDATION, SEED)
    facts = Facts(
        name=name,
        title="Digits, fine-tuned",
        kind="fine-tuning",
        model="CNN: two 3x3 convolutions (16 and 32 channels) and a linear layer, trained before "
        "on the digits 0 to 4; all of it is trained on, under a new last layer",
        parameters=count(_network()),
        batch_size=10,
        sizes={part: len(split.targets) for part, split in splits.items()},
        metric="test accuracy",
        unit="%",
        higher_is_better=True,
        baselines=baselines(splits["train"], splits["test"]),
        target=95.0,
        notes="scikit-learn's digits: 901 images of 0 to 4 train the network that every run starts "
        f"from (PyTorch's Adam, {OLD_EPOCHS} epochs); {TRAIN} images of 5 to 9 are learned from, "
        "split at random with a fixed seed, standardised as these are; cross-entropy loss.",
    )
    model = partial(_with_new_head, trained)
    return Supervised(facts, model, splits, nn.functional.cross_entropy, accuracy)


def _network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, OLD_CLASSES),
    )


def _with_new_head(trained: nn.Sequential) -> nn.Sequential:
    network = copy.deepcopy(trained)
    network[-1] = nn.Linear(128, OLD_CLASSES)
    return network


def _trained(examples: Split) -> nn.Sequential:
    """The network after `OLD_EPOCHS` on the old classes; the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = _network()
    order = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.Adam(network.parameters(), OLD_RATE)
    centered = (examples.inputs - examples.inputs.mean()) / examples.inputs.std()
    for _ in range(OLD_EPOCHS):
        for batch in Split(centered, examples.targets).batches(OLD_BATCH, order):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(batch.inputs), batch.targets).backward()
            optimizer.step()
    network.zero_grad()
    return network
