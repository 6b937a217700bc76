"""A character LSTM on English text that every CPython carries: its own help topics."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from meansquare.lab.tasks import Facts, Score
from meansquare.lab.tasks.python_topics import SOURCE, paragraphs
from meansquare.lab.tasks.supervised import (
    NetworkRun,
    Split,
    SplitName,
    Supervised,
    Training,
    count,
)

SPLIT_SEED = 0
SHARES: Mapping[SplitName, float] = {"train": 0.8, "validation": 0.1, "test": 0.1}
WINDOW = 48  # characters that a gradient goes through
LONG_WINDOW = 256  # of validation and test, where a short one would be judged mostly on its start
BATCH_SIZE = 16
STEPS = 128  # in one period, about a third of a pass over the text


class Characters(nn.Module):
    """An LSTM that predicts the next character at every step; the output's classes come second."""

    def __init__(self, characters: int, hidden: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, 32)
        self.recurrent = nn.LSTM(32, hidden, batch_first=True)
        self.readout = nn.Linear(hidden, characters)

    def forward(self, text: Tensor) -> Tensor:
        return self.readout(self.recurrent(self.embedding(text))[0]).transpose(1, 2)


class Encoded(NamedTuple):
    """The text of each split as numbers; `size` counts them, the last is for unseen characters."""

    texts: Mapping[SplitName, np.ndarray]
    size: int


@dataclass(frozen=True)
class InParts:
    """A task with periods of `steps` batches instead of whole passes."""

    whole: Supervised
    steps: int

    @property
    def facts(self) -> Facts:
        return self.whole.facts

    def start(self, seed: int) -> Part:
        return Part(self.whole.start(seed), self.steps)


class Part(NetworkRun):
    """A pass over the training text goes on where the last period stopped."""

    def __init__(self, training: Training, steps: int) -> None:
        super().__init__(training.model)
        self._training, self._steps = training, steps
        self._endless = self._passes()

    def _passes(self) -> Iterator[Tensor]:
        while True:
            yield from self._training.losses()

    def losses(self) -> Iterator[Tensor]:
        self.model.train()  # a pass does so only where it begins, and validation came since
        yield from islice(self._endless, self._steps)

    def evaluate(self, name: SplitName) -> Score:
        return self._training.evaluate(name)


def load(name: str) -> InParts:
    """The task with the help topics in it."""
    encoded = _encoded(_texts())
    splits: dict[SplitName, Split] = {
        part: _windows(text, part) for part, text in encoded.texts.items()
    }
    lengths = {part: f"{len(text):,}" for part, text in encoded.texts.items()}
    facts = Facts(
        name=name,
        title="Characters of Python's help",
        kind="rnn",
        model="LSTM with 64 units over embeddings of 32, one linear readout",
        parameters=count(Characters(encoded.size)),
        batch_size=BATCH_SIZE,
        sizes={part: len(split.targets) for part, split in splits.items()},
        metric="test bits per character",
        unit="bits",
        higher_is_better=False,
        baselines=_baselines(encoded),
        target=2.75,
        epoch="part",
        notes=f"English text from {SOURCE} without repeated paragraphs, which are dealt at random "
        f"with a fixed seed: {lengths['train']} characters for training, {lengths['validation']} "
        f"for validation, {lengths['test']} for the test. A part of training is {STEPS} batches "
        f"of {BATCH_SIZE} windows of {WINDOW} characters, each read from an empty state; "
        f"validation and test read windows of {LONG_WINDOW}. Cross-entropy loss.",
    )

    def model() -> nn.Module:
        return Characters(encoded.size)

    return InParts(Supervised(facts, model, splits, nn.functional.cross_entropy, _bits), STEPS)


def _bits(output: Tensor, target: Tensor) -> float:
    return float(nn.functional.cross_entropy(output.double(), target)) / math.log(2)


def _texts() -> dict[SplitName, str]:
    """Each split's paragraphs, in the order of the topics."""
    found = [paragraph for _, paragraph in paragraphs()]
    draws = torch.rand(len(found), generator=torch.Generator().manual_seed(SPLIT_SEED)).tolist()
    dealt: dict[SplitName, list[str]] = {name: [] for name in SHARES}
    for paragraph, draw in zip(found, draws, strict=True):
        test_from = SHARES["train"] + SHARES["validation"]
        name = "train" if draw < SHARES["train"] else "validation" if draw < test_from else "test"
        dealt[name].append(paragraph)
    return {name: "\n\n".join(kept) for name, kept in dealt.items()}


def _encoded(texts: Mapping[SplitName, str]) -> Encoded:
    numbers = {character: number for number, character in enumerate(sorted(set(texts["train"])))}
    other = len(numbers)
    return Encoded(
        {
            name: np.array([numbers.get(character, other) for character in text])
            for name, text in texts.items()
        },
        other + 1,
    )


def _windows(text: np.ndarray, name: SplitName) -> Split:
    length = WINDOW if name == "train" else LONG_WINDOW
    numbers = torch.tensor(text)
    return Split(numbers[:-1].unfold(0, length, length), numbers[1:].unfold(0, length, length))


def _baselines(encoded: Encoded) -> dict[str, float]:
    train, test = encoded.texts["train"], encoded.texts["test"]
    names = ("unigram model", "bigram model (Witten-Bell)", "trigram model (Witten-Bell)")
    return {
        name: ngram_bits(train, test, order, encoded.size) for order, name in enumerate(names, 1)
    }


def ngram_bits(train: np.ndarray, test: np.ndarray, order: int, size: int) -> float:
    """Mixed with the shorter contexts as Witten & Bell 1991 do, down to equal probabilities."""
    chance = np.full((1, size), 1.0 / size)
    for length in range(1, order + 1):
        seen = np.bincount(_codes(train, length, size), minlength=size**length).reshape(-1, size)
        followers = (seen > 0).sum(1, keepdims=True)
        # A context that never came has no followers: the shorter one has all the say.
        followers = np.maximum(followers, 1)
        shorter = np.tile(chance, (size if length > 1 else 1, 1))
        chance = (seen + followers * shorter) / (seen.sum(1, keepdims=True) + followers)
    return float(-np.log2(chance.reshape(-1)[_codes(test, order, size)]).mean())


def _codes(text: np.ndarray, length: int, size: int) -> np.ndarray:
    """Every run of `length` characters as one number, the last character its last digit."""
    runs = np.lib.stride_tricks.sliding_window_view(text, length)
    return runs @ (size ** np.arange(length - 1, -1, -1))
