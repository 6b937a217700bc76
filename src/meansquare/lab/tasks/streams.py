"""Streams: each example is predicted first and learned then; a drift changes what is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from river import datasets, linear_model, preprocessing, tree
from river.datasets import synth
from torch import Tensor, nn

from meansquare.lab.errors import LabError
from meansquare.lab.tasks import Facts, Score

PERIODS = 20
SEEN_ANEW = 300  # examples of a period of the made streams
CONCEPTS = (0, 3, 2, 1)  # of SEA, whose sum is compared with 8, 9.5, 7 and 9
NOISE = 0.1  # share of SEA's labels that are turned round
# Five of ten weights walk up and down by 0.005 an example, and turn every 200 examples or so.
WALK: Mapping[str, Any] = {"n_drift_features": 5, "mag_change": 0.005, "sigma": 0.015}
BASELINE_SEED = 1
Example = tuple[dict[Any, float], Any]


def load(name: str) -> Stream:
    """One of the streams; its examples are drawn when a run starts, from the run's seed."""
    source = SOURCES[name]
    examples = source.draw(BASELINE_SEED)
    features, periods = len(examples[0][0]), source.periods
    facts = Facts(
        name=name,
        title=source.title,
        kind="stream",
        model="logistic regression on standardised features",
        parameters=features + 1,
        batch_size=1,
        sizes={"examples": len(examples), "features": features},
        metric="accuracy after the first drift" if source.drifts else "accuracy over the stream",
        unit="%",
        higher_is_better=True,
        baselines=_baselines(examples, source.drifts),
        target=source.target,
        notes=f"{source.notes} Each example is predicted, then learned; features are standardised "
        "by what was seen so far. A setting is chosen by the mean log loss over the whole stream "
        f"of another seed; curves show the accuracy within a period. Baselines: seed "
        f"{BASELINE_SEED}.",
        epoch=f"{len(examples) // periods} examples",
        events={
            f"drift {n}": at / len(examples) * periods for n, at in enumerate(source.drifts, 1)
        },
        blow_up=None,  # one example's loss is no measure of a run
    )
    return Stream(facts, source)


@dataclass(frozen=True)
class Source:
    """Where a stream is from; `drifts` are the examples at which it becomes another."""

    title: str
    draw: Callable[[int], list[Example]]
    drifts: tuple[int, ...]
    periods: int
    target: float
    notes: str


@dataclass(frozen=True)
class Stream:
    """A stream to be learned from."""

    facts: Facts
    source: Source

    def start(self, seed: int) -> Learning:
        return Learning(self.source, seed)


class Learning:
    """One run over the whole stream: `hits` and `losses` are of predictions before their step."""

    def __init__(self, source: Source, seed: int) -> None:
        inputs, labels = as_arrays(source.draw(seed))
        self._inputs = torch.tensor(standardised(inputs), dtype=torch.float32)
        self._signs = torch.tensor(2.0 * labels - 1.0, dtype=torch.float32)
        self._first_drift = next(iter(source.drifts), 0)
        self._period = len(labels) // source.periods
        torch.manual_seed(seed)
        self.model = nn.Linear(inputs.shape[1], 1)
        self.hits: list[bool] = []
        self.log_losses: list[float] = []

    def parameters(self) -> Iterator[Tensor]:
        return self.model.parameters()

    def losses(self) -> Iterator[Tensor]:
        begin = len(self.hits)
        if begin + self._period > len(self._signs):
            # Going through it again would predict what has been learned.
            raise LabError(f"the stream ends here; --epochs can be {begin // self._period} at most")
        for at in range(begin, begin + self._period):
            margin = self._signs[at] * self.model(self._inputs[at])[0]
            loss = nn.functional.softplus(-margin)
            self.hits.append(margin.item() > 0.0)
            self.log_losses.append(loss.item())
            yield loss

    def validate(self) -> Score:
        accuracy = 100.0 * float(np.mean(self.hits[-self._period :]))
        return Score(float(np.mean(self.log_losses)), accuracy)

    def test(self) -> float:
        # A run may be told to end before the drift.
        return 100.0 * float(np.mean(self.hits[self._first_drift :] or self.hits))

    def series(self) -> Mapping[str, list[float]]:
        return {}


def as_arrays(examples: list[Example]) -> tuple[np.ndarray, np.ndarray]:
    """Features as (examples, features), labels as 0 and 1."""
    names = list(examples[0][0])
    inputs = np.asarray([[x[name] for name in names] for x, _ in examples], float)
    return inputs, np.asarray([bool(y) for _, y in examples], float)


def standardised(inputs: np.ndarray) -> np.ndarray:
    """Each row by mean and deviation of the rows up to it; 0 where these do not vary yet."""
    count = np.arange(1, len(inputs) + 1)[:, None]
    mean = inputs.cumsum(axis=0) / count
    variance = np.maximum((inputs**2).cumsum(axis=0) / count - mean**2, 0.0)
    # Below it the difference of squares is rounding.
    varies = variance > 1e-12
    return np.where(varies, inputs - mean, 0.0) / np.sqrt(np.where(varies, variance, 1.0))


def _sea(seed: int) -> list[Example]:
    length = PERIODS * SEEN_ANEW // len(CONCEPTS)
    made = [
        islice(synth.SEA(variant=variant, noise=NOISE, seed=len(CONCEPTS) * seed + number), length)
        for number, variant in enumerate(CONCEPTS)
    ]
    return [example for concept in made for example in concept]


def _hyperplane(seed: int) -> list[Example]:
    return list(islice(synth.Hyperplane(seed=seed, **WALK), PERIODS * SEEN_ANEW))


def _phishing(seed: int) -> list[Example]:
    sites = list(datasets.Phishing())
    order = np.random.default_rng(seed).permutation(len(sites))
    return [sites[at] for at in order]


def _baselines(examples: list[Example], drifts: tuple[int, ...]) -> dict[str, float]:
    begin = next(iter(drifts), 0)
    labels = np.asarray([bool(y) for _, y in examples])
    so_far = np.cumsum(labels) * 2 > np.arange(1, len(labels) + 1)

    def percent(hits: Any) -> float:
        return 100.0 * float(np.mean(np.asarray(hits)[begin:]))

    return {
        "always the commonest class so far": percent([False, *(so_far[:-1] == labels[1:])]),
        "the class before": percent([False, *(labels[:-1] == labels[1:])]),
        "logistic regression (river)": percent(
            _of_river(linear_model.LogisticRegression, examples)
        ),
        "Hoeffding tree (river)": percent(_of_river(tree.HoeffdingTreeClassifier, examples)),
    }


def _of_river(kind: Callable[[], Any], examples: list[Example]) -> list[bool]:
    """Which predictions of a river model with its own defaults are right, each before its step."""
    model = preprocessing.StandardScaler() | kind()
    hits = []
    for x, y in examples:
        hits.append(model.predict_one(x) == bool(y))
        model.learn_one(x, bool(y))
    return hits


SOURCES: Mapping[str, Source] = {
    "sea": Source(
        "SEA, four concepts", _sea,
        tuple(PERIODS * SEEN_ANEW * n // len(CONCEPTS) for n in range(1, len(CONCEPTS))),
        PERIODS, 84.0,
        "River's SEA generator (Street and Kim 2001): is the sum of two features above a bound, "
        f"which changes at once three times; {100 * NOISE:.0f} % of the labels are wrong; a seed "
        "draws the stream.",
    ),
    "hyperplane": Source(
        "A turning hyperplane", _hyperplane, (), PERIODS, 84.0,
        "River's hyperplane generator (Hulten et al. 2001): ten features, of whose weights five "
        "walk all the time; 4 % of the labels are wrong; a seed draws the stream.",
    ),
    "phishing": Source(
        "Phishing sites", _phishing, (), 10, 90.0,
        "1,250 web sites with nine features, is one a fraud (river's Phishing, UCI 379). They have "
        "no times: a seed draws their order.",
    ),
}  # fmt: skip
