"""Rare features: which of Python's help topics a passage is from, by the words that are in it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import torch
from sklearn.naive_bayes import MultinomialNB
from torch import Tensor, nn

from meansquare.lab.tasks import Facts
from meansquare.lab.tasks.python_topics import SOURCE, paragraphs
from meansquare.lab.tasks.supervised import Split, SplitName, Supervised, accuracy, count

SPLIT_SEED = 0
TRAIN, VALIDATION = 0.6, 0.2
FEWEST_WORDS = 5  # a shorter passage is a heading or a bracket
FEWEST_PASSAGES = 20  # of a topic
WORD = re.compile(r"[a-z_]+")


class Passage(NamedTuple):
    """The words of one paragraph and the number of its topic."""

    words: tuple[str, ...]
    topic: int


def load(name: str) -> Supervised:
    """The task with the help topics in it."""
    passages, topics = _passages()
    dealt = _dealt(passages)
    words = _vocabulary(dealt["train"])
    splits: dict[SplitName, Split] = {
        part: _counted(members, words) for part, members in dealt.items()
    }
    once = 100.0 * float(((splits["train"].inputs > 0).sum(0) == 1).double().mean())

    def model() -> nn.Module:
        return nn.Linear(len(words), topics)

    facts = Facts(
        name=name,
        title="Passages with rare words",
        kind="rare",
        model=f"softmax regression on the counts of {len(words):,} words",
        parameters=count(model()),
        batch_size=16,
        sizes={part: len(split.targets) for part, split in splits.items()},
        metric="test accuracy",
        unit="%",
        higher_is_better=True,
        baselines=_baselines(splits["train"], splits["test"]),
        target=64.0,
        notes=f"Which of {topics} topics a paragraph is from: {SOURCE} without repeated "
        f"paragraphs, those of {FEWEST_WORDS} words and more, topics of {FEWEST_PASSAGES} "
        f"paragraphs and more, split at random with a fixed seed. {once:.0f} % of the words are in "
        "one training passage only, so that their weights rarely have a gradient. Counts are not "
        "scaled; cross-entropy loss.",
    )
    return Supervised(facts, model, splits, nn.functional.cross_entropy, accuracy)


def _passages() -> tuple[list[Passage], int]:
    """The passages of the topics that have enough of them, and how many topics these are."""
    found = [(topic, tuple(WORD.findall(text.lower()))) for topic, text in paragraphs()]
    long_enough = [(topic, words) for topic, words in found if len(words) >= FEWEST_WORDS]
    sizes = Counter(topic for topic, _ in long_enough)
    kept = sorted(topic for topic, size in sizes.items() if size >= FEWEST_PASSAGES)
    numbers = {topic: number for number, topic in enumerate(kept)}
    passages = [Passage(words, numbers[topic]) for topic, words in long_enough if topic in numbers]
    # Paragraphs that differ in their punctuation only are one passage, their first.
    return list({passage.words: passage for passage in reversed(passages)}.values()), len(kept)


def _dealt(passages: list[Passage]) -> dict[SplitName, list[Passage]]:
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    order = torch.randperm(len(passages), generator=generator).tolist()
    train, validation = int(TRAIN * len(order)), int((TRAIN + VALIDATION) * len(order))
    shares: dict[SplitName, list[int]] = {
        "train": order[:train],
        "validation": order[train:validation],
        "test": order[validation:],
    }
    return {name: [passages[one] for one in chosen] for name, chosen in shares.items()}


def _vocabulary(train: list[Passage]) -> Mapping[str, int]:
    words = sorted({word for passage in train for word in passage.words})
    return {word: number for number, word in enumerate(words)}


def _counted(passages: list[Passage], words: Mapping[str, int]) -> Split:
    counts = torch.zeros(len(passages), len(words))
    for row, passage in zip(counts, passages, strict=True):
        for word in passage.words:
            if word in words:
                row[words[word]] += 1
    return Split(counts, torch.tensor([passage.topic for passage in passages]))


def _baselines(train: Split, test: Split) -> dict[str, float]:
    bayes = MultinomialNB().fit(train.inputs.numpy(), train.targets.numpy())
    commonest: Tensor = test.targets == train.targets.mode().values
    return {
        "always the commonest topic": 100.0 * float(commonest.double().mean()),
        "naive Bayes on the same counts": 100.0
        * float(bayes.score(test.inputs.numpy(), test.targets.numpy())),
    }
