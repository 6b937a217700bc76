"""A task of a user's own: a Python file with `model`, `data` and `loss`."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, cast, get_args

import torch
from torch import Tensor, nn

from meansquare.lab.errors import LabError
from meansquare.lab.files import imported_file
from meansquare.lab.setups import digest
from meansquare.lab.tasks import Facts, Task
from meansquare.lab.tasks.named import OWN_EPOCHS
from meansquare.lab.tasks.supervised import Split, SplitName, Supervised, count
from meansquare.settings import shown

NEEDED = ("model", "data", "loss")
# What a file may say besides, each with its type and what it is otherwise.
SAID: dict[str, tuple[type | tuple[type, ...], Any]] = {
    "TITLE": (str, None),
    "EPOCHS": (int, OWN_EPOCHS),
    "BATCH_SIZE": (int, 32),
    "METRIC": (str, "test loss"),
    "UNIT": (str, ""),
    "HIGHER_IS_BETTER": (bool, False),
    "TARGET": ((int, float), None),
    "BASELINES": (dict, {}),
}


def epochs_of_file(path: Path) -> int:
    """The EPOCHS that a file asks for."""
    return _said(_module(path), path)["EPOCHS"]


def load_file(path: Path) -> Task:
    """The task in a user's file; LabError says in one line what keeps it from being one."""
    module = _module(path)
    if hasattr(module, "load"):
        return module.load(str(path))
    missing = [name for name in NEEDED if not callable(getattr(module, name, None))]
    if missing:
        raise LabError(
            f"{path} has no function {missing[0]}(); a task needs model(), data() and loss(output, "
            "target): meansquare new-task writes one to begin with."
        )
    said = _said(module, path)
    splits = _splits(_called(module.data, path, "data"), path)
    model = _called(module.model, path, "model")
    if not isinstance(model, nn.Module):
        raise LabError(f"{path}: model() returned {shown(model)}, a torch.nn.Module is wanted.")
    metric = getattr(module, "metric", lambda output, target: float(module.loss(output, target)))
    facts = Facts(
        name=str(path),
        title=said["TITLE"] or path.stem.replace("_", " "),
        kind="own",
        model=type(model).__name__,
        parameters=count(model),
        batch_size=said["BATCH_SIZE"],
        sizes={name: len(split.targets) for name, split in splits.items()},
        metric=said["METRIC"],
        unit=said["UNIT"] or "-",
        higher_is_better=said["HIGHER_IS_BETTER"],
        baselines=said["BASELINES"],
        target=said["TARGET"],
        notes=f"{(module.__doc__ or 'No description.').strip().splitlines()[0]} "
        f"sha256 {digest(path)}.",
    )
    return Supervised(facts, module.model, splits, module.loss, metric)


def _module(path: Path) -> ModuleType:
    try:
        return imported_file(path)
    except Exception as error:
        raise LabError(f"cannot import {path} ({type(error).__name__}: {error})") from error


def _said(module: ModuleType, path: Path) -> dict[str, Any]:
    said = {name: getattr(module, name, otherwise) for name, (_, otherwise) in SAID.items()}
    for name, (kinds, _) in SAID.items():
        if hasattr(module, name) and not isinstance(said[name], kinds):
            raise LabError(f"{path}: {name} is {shown(said[name])}; {kinds} is wanted.")
        if name in ("EPOCHS", "BATCH_SIZE") and said[name] < 1:
            raise LabError(f"{path}: {name} must be at least 1, got {said[name]}.")
    return said


def _called(function: Any, path: Path, name: str) -> Any:
    try:
        return function()
    except Exception as error:
        raise LabError(f"{path}: {name}() failed ({type(error).__name__}: {error})") from error


def _splits(data: Any, path: Path) -> dict[SplitName, Split]:
    names = cast(tuple[SplitName, ...], get_args(SplitName))
    if not isinstance(data, dict) or data.keys() != set(names):
        raise LabError(f"{path}: data() must return a dict of {', '.join(names)}.")
    return {name: _split(data[name], f"{path}: data()[{name!r}]") for name in names}


def _split(pair: Any, where: str) -> Split:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise LabError(f"{where} must be a pair (inputs, targets).")
    inputs, targets = (torch.as_tensor(one) for one in pair)
    if not len(inputs) or len(inputs) != len(targets):
        raise LabError(f"{where} has {len(inputs)} inputs and {len(targets)} targets.")
    return Split(cast(Tensor, inputs), cast(Tensor, targets))
