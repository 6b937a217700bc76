"""Two moons: which of two crescents a point is from. Replace model, data and loss by yours."""

import torch
from sklearn.datasets import make_moons
from torch import nn

EPOCHS, BATCH_SIZE = 10, 32


def model():
    """The network; its weights are drawn anew for each seed."""
    return nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2))


def data():
    """Inputs and targets; settings are chosen on "validation" and reported on "test"."""
    x, y = make_moons(1500, noise=0.25, random_state=0)
    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
    parts = {"train": slice(900), "validation": slice(900, 1200), "test": slice(1200, None)}
    return {name: (x[part], y[part]) for name, part in parts.items()}


def loss(output, target):
    """What is trained on: the mean over a batch."""
    return nn.functional.cross_entropy(output, target)


def metric(output, target):
    """What is reported; leave it out and the loss is. Also METRIC, UNIT and HIGHER_IS_BETTER."""
    return 100 * float((output.argmax(1) == target).double().mean())


METRIC, UNIT, HIGHER_IS_BETTER = "test accuracy", "%", True
