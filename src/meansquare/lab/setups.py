"""What an optimizer is in the lab: a name, a label and the call that builds it."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer


@dataclass(frozen=True)
class Setup:
    """One competitor: `module.factory(parameters, lr, **settings)`, the rest at its default."""

    name: str
    label: str
    module: str
    factory: str
    settings: Mapping[str, float] = field(default_factory=dict)

    @property
    def call(self) -> str:
        arguments = ["lr", *(f"{key}={value}" for key, value in self.settings.items())]
        return f"{self.module}.{self.factory}({', '.join(arguments)})"

    def build(self, parameters: Iterable[Tensor], lr: float) -> Optimizer:
        factory = getattr(importlib.import_module(self.module), self.factory)
        return factory(parameters, lr=lr, **self.settings)


SETUPS: Mapping[str, Setup] = {
    setup.name: setup
    for setup in (
        Setup("rmsprop", "RMSProp", "meansquare", "RMSProp"),
        Setup("sgd", "Gradient descent", "meansquare", "SGD"),
        Setup("momentum", "Momentum", "meansquare", "SGD", {"momentum": 0.9}),
        Setup("adagrad", "AdaGrad", "meansquare", "AdaGrad"),
        Setup("adam", "Adam", "meansquare", "Adam"),
    )
}
