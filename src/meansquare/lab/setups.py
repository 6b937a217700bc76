"""What an optimizer is in the lab: a name, a label, the call that builds it, what is searched."""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meansquare.dialects import DIALECTS
from meansquare.lab.errors import LabError
from meansquare.lab.files import imported_file
from meansquare.lab.space import Axis, Settings

if TYPE_CHECKING:
    from types import ModuleType

    from torch import Tensor
    from torch.optim import Optimizer

_ALPHA = Axis("alpha", 1e-3, 0.5, "one minus")
_EPS = Axis("eps", 1e-8, 1.0)
_MOMENTUM = Axis("momentum", 0.01, 1.0, "one minus")
_BETAS = (Axis("beta1", 0.01, 1.0, "one minus"), Axis("beta2", 1e-3, 0.5, "one minus"))


@dataclass(frozen=True)
class Setup:
    """One competitor: `module.factory(parameters, lr, **fixed)`, the rest at its default.

    `axes` are the settings that a search of all settings tries, besides the learning rate.
    """

    name: str
    label: str
    module: str
    factory: str
    fixed: Mapping[str, float | str] = field(default_factory=dict)
    axes: tuple[Axis, ...] = ()

    @property
    def call(self) -> str:
        arguments = ["lr", *(f"{key}={value!r}" for key, value in self.fixed.items())]
        called = f"{self.module}.{self.factory}({', '.join(arguments)})"
        if not self.module.endswith(".py"):
            return called
        return f"{called}, sha256 {digest(self.module)}"

    def build(self, parameters: Iterable[Tensor], settings: Settings) -> Optimizer:
        return getattr(_imported(self.module), self.factory)(
            parameters, **{**self.fixed, **_arguments(settings)}
        )


def _arguments(settings: Settings) -> dict[str, Any]:
    """The settings as an optimizer takes them: Adam has its two decays as a pair."""
    words: dict[str, Any] = dict(settings)
    if "beta1" in words:
        words["betas"] = (words.pop("beta1"), words.pop("beta2"))
    return words


_ALL = (
    Setup("rmsprop", "RMSProp", "meansquare", "RMSProp", axes=(_ALPHA, _EPS, _MOMENTUM)),
    Setup("sgd", "Gradient descent", "meansquare", "SGD"),
    Setup("momentum", "Momentum", "meansquare", "SGD", {"momentum": 0.9}, (_MOMENTUM,)),
    Setup(
        "nesterov", "Nesterov", "meansquare", "SGD", {"momentum": 0.9, "nesterov": True},
        (Axis("momentum", 0.01, 0.9, "one minus"),),
    ),
    Setup("adagrad", "AdaGrad", "meansquare", "AdaGrad", axes=(_EPS,)),
    Setup("adam", "Adam", "meansquare", "Adam", axes=(*_BETAS, _EPS)),
    Setup("river-sgd", "river's SGD", "meansquare.lab.from_river", "RiverSGD"),
    Setup("river-rmsprop", "river's RMSProp", "meansquare.lab.from_river", "RiverRMSProp"),
    Setup("river-adagrad", "river's AdaGrad", "meansquare.lab.from_river", "RiverAdaGrad"),
    Setup("river-adam", "river's Adam", "meansquare.lab.from_river", "RiverAdam"),
)  # fmt: skip
SETUPS: Mapping[str, Setup] = {setup.name: setup for setup in _ALL}
USUAL = tuple(name for name in SETUPS if not name.startswith("river-"))

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


def digest(file: str | Path) -> str:
    """Twelve hex digits that change when the file does."""
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]


def _imported(name: str) -> ModuleType:
    return imported_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
