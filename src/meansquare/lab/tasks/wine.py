"""A badly scaled table: scikit-learn's wine data with the columns in their own units."""

from __future__ import annotations

import torch
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from meansquare.lab.tasks import Facts
from meansquare.lab.tasks.supervised import Split, SplitName, Supervised, accuracy, count

SPLIT_SEED = 0
TRAIN, VALIDATION = 90, 44


def load(name: str) -> Supervised:
    """The task with scikit-learn's wine data in it, nothing scaled."""
    table, kinds = load_wine(return_X_y=True)
    examples = Split(torch.tensor(table, dtype=torch.float32), torch.tensor(kinds))
    splits = _splits(examples)
    spread = splits["train"].inputs.std(0)
    facts = Facts(
        name=name,
        title="Wine, columns in their own units",
        kind="table",
        model="MLP: one hidden layer of 32 ReLU units",
        parameters=count(_model()),
        batch_size=16,
        sizes={part: len(split.targets) for part, split in splits.items()},
        metric="test accuracy",
        unit="%",
        higher_is_better=True,
        baselines=_baselines(splits["train"], splits["test"]),
        target=97.0,
        notes="178 Italian wines of three cultivars, 13 measurements each (scikit-learn's wine), "
        "split at random with a fixed seed. The columns keep their units on purpose: standard "
        f"deviations from {spread.min():.2g} to {spread.max():.0f}. Cross-entropy loss.",
    )
    return Supervised(facts, _model, splits, nn.functional.cross_entropy, accuracy)


def _model() -> nn.Module:
    return nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3))


def _splits(examples: Split) -> dict[SplitName, Split]:
    order = torch.randperm(
        len(examples.targets), generator=torch.Generator().manual_seed(SPLIT_SEED)
    )
    names: tuple[SplitName, ...] = ("train", "validation", "test")
    parts = order.tensor_split([TRAIN, TRAIN + VALIDATION])
    return {
        name: Split(examples.inputs[part], examples.targets[part])
        for name, part in zip(names, parts, strict=True)
    }


def _baselines(train: Split, test: Split) -> dict[str, float]:
    scaled = make_pipeline(StandardScaler(), LogisticRegression()).fit(*train)
    commonest: Tensor = test.targets == train.targets.mode().values
    return {
        "always the commonest cultivar": 100.0 * float(commonest.double().mean()),
        "logistic regression on standardised columns": 100.0 * float(scaled.score(*test)),
    }
