"""Tasks by their names: one of the lab's, a user's file, or a user's folder of images or text."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import NamedTuple

from meansquare.lab.errors import LabError
from meansquare.lab.tasks import TASKS, Listing, Task

# What a user's folder is trained on: the module that reads it, and for how many epochs.
FOLDERS = {"images": Listing("own_images", "cnn", 10), "text": Listing("own_text", "rnn", 3)}
OWN_EPOCHS = 10


class Named(NamedTuple):
    """What a name stands for: one of FOLDERS or a user's file, and where it is."""

    form: str
    path: Path


def is_task(name: str) -> bool:
    """Whether it may be the name of a task, wherever its data are."""
    return name in TASKS or _named(name) is not None


def epochs_of(name: str, asked: int | None = None) -> int:
    """How many periods a task trains for: as many as asked, of a stream no more than there are."""
    if asked is not None:
        if name in TASKS and TASKS[name].kind == "stream" and asked > TASKS[name].epochs:
            most = TASKS[name].epochs
            raise LabError(f"--epochs: {name} ends after {most} periods; ask for {most} at most.")
        return asked
    if name in TASKS:
        return TASKS[name].epochs
    named = _require(name)
    if named.form in FOLDERS:
        return FOLDERS[named.form].epochs
    from meansquare.lab.tasks.own import epochs_of_file

    return epochs_of_file(named.path)


def load_task(name: str) -> Task:
    """Read the data of the task called `name` and return it ready to train."""
    if name in TASKS:
        return importlib.import_module(f"meansquare.lab.tasks.{TASKS[name].module}").load(name)
    named = _require(name)
    if named.form == "images":
        from meansquare.lab.tasks.own_images import load_images

        return load_images(name, named.path)
    if named.form == "text":
        from meansquare.lab.tasks.own_text import load_text

        return load_text(name, named.path)
    from meansquare.lab.tasks.own import load_file

    return load_file(named.path)


def _require(name: str) -> Named:
    named = _named(name)
    if named is None:
        raise LabError(f"no task is called {name!r}")
    return named


def _named(name: str) -> Named | None:
    form, colon, place = name.partition(":")
    if colon and form in FOLDERS and place:
        return Named(form, Path(place))
    return Named("file", Path(name)) if name.endswith(".py") else None
