"""What an optimizer is in the lab: a name, a label and the call that builds it."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from meansquare.dialects import DIALECTS
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
    settings: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def call(self) -> str:
        arguments = ["lr", *(f"{key}={value!r}" for key, value in self.settings.items())]
        called = f"{self.module}.{self.factory}({', '.join(arguments)})"
        if not self.module.endswith(".py"):
            return called
        return f"{called}, sha256 {hashlib.sha256(Path(self.module).read_bytes()).hexdigest()[:12]}"

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
    """Whether it may be the name of a competitor, one of SETUPS, a dialect or a user's own."""
    return name in SETUPS or name in DIALECTS or _OWN.fullmatch(name) is not None


def setup_of(name: str) -> Setup:
    """One of SETUPS, a dialect, or a user's own: `module:Name` or `folder/file.py:Name`."""
    if name in SETUPS:
        return SETUPS[name]
    if name in DIALECTS:
        return Setup(name, f"RMSProp, {name}", "meansquare", "RMSProp", {"dialect": name})
    own = _OWN.fullmatch(name)
    if own is None:
        raise LabError(f"no optimizer is called {name!r}")
    return Setup(name, name, own["module"], own["factory"])


def require_importable(setup: Setup) -> None:
    """LabError where a user's optimizer is not to be had."""
    from torch.optim import Optimizer

    try:
        made = getattr(_imported(setup.module), setup.factory, None)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise LabError(f"--optimizers: cannot import {setup.module} ({what})") from error
    if not (isinstance(made, type) and issubclass(made, Optimizer)):
        raise LabError(f"--optimizers: {setup.module} has no optimizer class {setup.factory!r}")


def _imported(name: str) -> ModuleType:
    """A module by its name or by its file, which may import what lies beside it."""
    if not name.endswith(".py"):
        return importlib.import_module(name)
    path = Path(name).resolve()
    known = f"_of_a_user_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if known in sys.modules:
        return sys.modules[known]
    spec = importlib.util.spec_from_file_location(known, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ImportError(f"no file {name}")
    module = sys.modules[known] = importlib.util.module_from_spec(spec)
    sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[known]
        raise
    return module
