"""The tasks: real data, a small model, a loss to train on and a metric to report."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

SplitName = Literal["train", "validation", "test"]

# Epochs each task trains for unless told otherwise, by task name; the module has the same name.
TASKS: Mapping[str, int] = {"digits": 20, "co2": 15}


@dataclass(frozen=True)
class Facts:
    """What the report says about a task; all of it is stored with the records."""

    name: str
    title: str
    model: str
    parameters: int
    batch_size: int
    sizes: Mapping[str, int]
    metric: str
    unit: str
    higher_is_better: bool
    baselines: Mapping[str, float]
    notes: str


class Split(NamedTuple):
    """Inputs and targets with the examples along the first dimension."""

    inputs: Tensor
    targets: Tensor


class Task(Protocol):
    """A learning problem; `model()` draws its weights from torch's global generator."""

    @property
    def facts(self) -> Facts: ...

    def model(self) -> nn.Module: ...

    def split(self, name: SplitName) -> Split: ...

    def loss(self, output: Tensor, target: Tensor) -> Tensor: ...

    def metric(self, output: Tensor, target: Tensor) -> float: ...


def load_task(name: str) -> Task:
    """Read the data of the task called `name` and return it ready to train."""
    return importlib.import_module(f"{__name__}.{name}").load()
