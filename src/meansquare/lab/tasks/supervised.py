"""Tasks of the usual kind: a network, three splits of examples, a loss and a metric."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from meansquare.lab.tasks import Facts, Score

SplitName = Literal["train", "validation", "test"]
MOST_AT_ONCE = 4096  # examples that are evaluated in one pass


class Split(NamedTuple):
    """Inputs and targets with the examples along the first dimension."""

    inputs: Tensor
    targets: Tensor

    def batches(self, size: int, order: torch.Generator) -> Iterator[Split]:
        """All examples once, in an order drawn from `order`."""
        for chosen in torch.randperm(len(self.targets), generator=order).split(size):
            yield Split(self.inputs[chosen], self.targets[chosen])


@dataclass(frozen=True)
class Supervised:
    """A task from its parts; `model` draws its weights from torch's global generator."""

    facts: Facts
    model: Callable[[], nn.Module]
    splits: Mapping[SplitName, Split]
    loss: Callable[[Tensor, Tensor], Tensor]
    metric: Callable[[Tensor, Tensor], float]

    def start(self, seed: int) -> Training:
        torch.manual_seed(seed)
        return Training(self, self.model(), torch.Generator().manual_seed(seed))


class NetworkRun(ABC):
    """One run of a network; how a split is evaluated is for a kind of data to say."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def parameters(self) -> Iterable[Tensor]:
        return self.model.parameters()

    def validate(self) -> Score:
        return self.evaluate("validation")

    def test(self) -> float:
        return self.evaluate("test").metric

    def series(self) -> Mapping[str, Sequence[float]]:
        return {}

    @abstractmethod
    def losses(self) -> Iterator[Tensor]:
        """The training losses of one period."""

    @abstractmethod
    def evaluate(self, name: SplitName) -> Score:
        """Loss and metric on a whole split, by the network as it is."""


class Training(NetworkRun):
    """Every epoch goes through the training split in a new order."""

    def __init__(self, task: Supervised, model: nn.Module, order: torch.Generator) -> None:
        super().__init__(model)
        self._task, self._order = task, order

    def losses(self) -> Iterator[Tensor]:
        self.model.train()
        for batch in self._task.splits["train"].batches(self._task.facts.batch_size, self._order):
            yield self._task.loss(self.model(batch.inputs), batch.targets)

    @torch.no_grad()
    def evaluate(self, name: SplitName) -> Score:
        self.model.eval()
        split = self._task.splits[name]
        output = torch.cat([self.model(part) for part in split.inputs.split(MOST_AT_ONCE)])
        loss = self._task.loss(output, split.targets).item()
        return Score(loss, self._task.metric(output, split.targets))


def count(model: nn.Module) -> int:
    """The number of a model's parameters."""
    return sum(weight.numel() for weight in model.parameters())


def accuracy(output: Tensor, target: Tensor) -> float:
    """Per cent of the targets that have the largest output."""
    return 100.0 * int((output.argmax(1) == target).sum()) / len(target)


def split_at_random(
    examples: Split, train: int, validation: int, seed: int
) -> dict[SplitName, Split]:
    """Three splits, drawn with a fixed seed; inputs are standardised as the training split is."""
    order = torch.randperm(len(examples.targets), generator=torch.Generator().manual_seed(seed))
    parts = order.tensor_split([train, train + validation])
    mean, deviation = examples.inputs[parts[0]].mean(), examples.inputs[parts[0]].std()
    inputs = (examples.inputs - mean) / deviation
    names: tuple[SplitName, ...] = ("train", "validation", "test")
    return {
        name: Split(inputs[part], examples.targets[part])
        for name, part in zip(names, parts, strict=True)
    }
