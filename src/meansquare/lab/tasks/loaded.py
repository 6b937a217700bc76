"""Tasks whose examples are read while they train, by a DataLoader: data too large to hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from meansquare.lab.tasks import Facts, Score
from meansquare.lab.tasks.supervised import NetworkRun, SplitName


@dataclass(frozen=True)
class Loaded:
    """A task whose examples are read while it trains; `metric` is of mean loss and accuracy."""

    facts: Facts
    model: Callable[[], nn.Module]
    data: Mapping[SplitName, Dataset[Any]]
    metric: Callable[[float, float], float]

    def start(self, seed: int) -> Reading:
        torch.manual_seed(seed)
        return Reading(self, self.model(), torch.Generator().manual_seed(seed))


class Reading(NetworkRun):
    """A DataLoader reads every split, the training split in a new order each epoch."""

    def __init__(self, task: Loaded, model: nn.Module, order: torch.Generator) -> None:
        super().__init__(model)
        self._task, self._order = task, order

    def losses(self) -> Iterator[Tensor]:
        self.model.train()
        for inputs, targets in self._batches("train", shuffle=True):
            yield nn.functional.cross_entropy(self.model(inputs), targets)

    def _batches(self, name: SplitName, shuffle: bool = False) -> Iterable[tuple[Tensor, Tensor]]:
        size = self._task.facts.batch_size
        return DataLoader(self._task.data[name], size, shuffle=shuffle, generator=self._order)

    @torch.no_grad()
    def evaluate(self, name: SplitName) -> Score:
        self.model.eval()
        loss, right, seen = 0.0, 0, 0
        for inputs, targets in self._batches(name):
            output = self.model(inputs)
            loss += nn.functional.cross_entropy(output, targets, reduction="sum").item()
            right += int((output.argmax(1) == targets).sum())
            seen += targets.numel()
        return Score(loss / seen, self._task.metric(loss / seen, right / seen))
