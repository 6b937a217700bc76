"""What an optimizer is in the lab: a name, a label and the call that builds it."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from meansquare.lab.errors import LabError

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
        return getattr(_imported(self.module), self.factory)(parameters, lr=lr, **self.settings)


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

_OWN = re.compile(r"(?P<module>[\w./-]+):(?P<factory>[A-Za-z_]\w*)")


def is_setup(name: str) -> bool:
    """Whether it may be the name of a competitor, one of SETUPS or a user's own."""
    return name in SETUPS or _OWN.fullmatch(name) is not None


def setup_of(name: str) -> Setup:
    """One of SETUPS, or a user's own optimizer: `module:Name` or `folder/file.py:Name`."""
    if name in SETUPS:
        return SETUPS[name]
    own = _OWN.fullmatch(name)
    if own is None:
        raise LabError(f"no optimizer is called {name!r}")
    return Setup(name, own["factory"], own["module"], own["factory"])


def require_importable(setup: Setup) -> None:
    """LabError where a user's optimizer is not to be had."""
    try:
        module = _imported(setup.module)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise LabError(f"--optimizers: cannot import {setup.module} ({what})") from error
    if not callable(getattr(module, setup.factory, None)):
        raise LabError(f"--optimizers: {setup.module} has no optimizer {setup.factory!r}")


def _imported(name: str) -> ModuleType:
    if not name.endswith(".py"):
        return importlib.import_module(name)
    path = Path(name).resolve()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ImportError(f"no file {name}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
