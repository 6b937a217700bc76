"""Long-tailed classes: pairs of real digits, of which the k-th commonest comes 1/k as often."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn

from meansquare.lab.tasks import Facts
from meansquare.lab.tasks.supervised import Split, SplitName, Supervised, count

SPLIT_SEED = 0
CLASSES = 100  # the numbers 00 to 99
TRAIN_DIGITS, VALIDATION_DIGITS = 1077, 360
TRAIN_PAIRS, PAIRS_OF_A_CLASS = 3000, 10  # the second for validation and test, which are balanced


def load(name: str) -> Supervised:
    """The task with scikit-learn's digits in it, paired."""
    splits = _splits()
    sizes = splits["train"].targets.bincount(minlength=CLASSES)
    facts = Facts(
        name=name,
        title="Long-tailed classes",
        kind="rare",
        model="MLP: 128 pixels, one hidden layer of 64 ReLU units, 100 classes",
        parameters=count(_model()),
        batch_size=32,
        sizes={part: len(split.targets) for part, split in splits.items()},
        metric="balanced test accuracy",
        unit="%",
        higher_is_better=True,
        baselines=_baselines(splits["train"], splits["test"]),
        target=75.0,
        notes="Numbers of two digits from scanned 8x8 images (scikit-learn's digits) side by side. "
        "In training the k-th commonest number comes 1/k as often as the first, as words do "
        f"(Kunstner et al. 2024): {sizes.max()} pairs of one number down to {sizes.min()}; "
        "validation and test have as many of each. Images, not pairs, are split at random first, "
        "with a fixed seed, so no image is in two splits. Cross-entropy loss.",
    )
    return Supervised(facts, _model, splits, nn.functional.cross_entropy, balanced_accuracy)


def balanced_accuracy(output: Tensor, target: Tensor) -> float:
    """The mean over classes of the per cent of a class that have the largest output."""
    right = (output.argmax(1) == target).double()
    sizes = target.bincount(minlength=CLASSES)
    hits = torch.zeros(CLASSES, dtype=torch.float64).index_add(0, target, right)
    return 100.0 * float((hits / sizes)[sizes > 0].mean())


def _model() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, CLASSES))


def _splits() -> dict[SplitName, Split]:
    pixels, digits = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).unflatten(1, (8, 8))
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    order = torch.randperm(len(images), generator=generator)
    parts = order.tensor_split([TRAIN_DIGITS, TRAIN_DIGITS + VALIDATION_DIGITS])
    mean, deviation = images[parts[0]].mean(), images[parts[0]].std()
    standardised, labels = (images - mean) / deviation, torch.tensor(digits)
    balanced = torch.arange(CLASSES).repeat_interleave(PAIRS_OF_A_CLASS)
    wanted: dict[SplitName, Tensor] = {
        "train": _long_tail(generator),
        "validation": balanced,
        "test": balanced,
    }
    return {
        name: _paired(Split(standardised[part], labels[part]), numbers, generator)
        for part, (name, numbers) in zip(parts, wanted.items(), strict=True)
    }


def _long_tail(generator: torch.Generator) -> Tensor:
    """The classes of the training pairs; which class is how common is drawn."""
    shares = 1.0 / torch.arange(1, CLASSES + 1)
    sizes = (TRAIN_PAIRS * shares / shares.sum()).round().long()
    return torch.randperm(CLASSES, generator=generator).repeat_interleave(sizes)


def _paired(pool: Split, numbers: Tensor, generator: torch.Generator) -> Split:
    """For each number, two images of its digits, drawn from the pool with replacement."""
    halves = [_drawn(pool, digits, generator) for digits in (numbers // 10, numbers % 10)]
    return Split(torch.cat(halves, dim=2), numbers)


def _drawn(pool: Split, digits: Tensor, generator: torch.Generator) -> Tensor:
    same = (digits.unsqueeze(1) == pool.targets).float()
    return pool.inputs[torch.multinomial(same, 1, generator=generator).squeeze(1)]


def _baselines(train: Split, test: Split) -> dict[str, float]:
    neighbours = KNeighborsClassifier(1).fit(train.inputs.flatten(1), train.targets)
    nearest = torch.tensor(neighbours.predict_proba(test.inputs.flatten(1)))
    commonest = nn.functional.one_hot(train.targets.mode().values, CLASSES)
    return {
        "always the commonest number": balanced_accuracy(
            commonest.expand(len(test.targets), CLASSES), test.targets
        ),
        "nearest neighbour on pixels": balanced_accuracy(nearest, test.targets),
    }
