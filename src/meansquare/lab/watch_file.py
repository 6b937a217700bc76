"""The file that `meansquare.watch` writes, as it is read: looks, losses, events. Needs no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meansquare.lab.errors import LabError
from meansquare.settings import shown

FORMAT, VERSION = "meansquare-watch", 1
RECORDS = "records.jsonl"  # of a run folder, which is no watched training
NUMBERS = (
    "eps_rules", "gradient", "update", "relative_update", "precursor", "dead", "stale", "nonfinite",
)  # fmt: skip
MOST_COUNTED = 2**53


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of one tensor; None where a number is not finite or there is none."""

    rate: tuple[float | None, ...] | None
    eps_rules: float | None
    gradient: float | None
    update: float | None
    relative_update: float | None
    precursor: float | None
    dead: float | None
    stale: float | None
    nonfinite: float | None

    def values(self, number: str) -> tuple[float | None, ...]:
        """A number by its name; the quantiles of the rates."""
        return (self.rate or (None,)) if number == "rate" else (getattr(self, number),)

    def value(self, number: str) -> float | None:
        """A number by its name; of the rates their median."""
        values = self.values(number)
        return values[len(values) // 2]


@dataclass(frozen=True)
class Look:
    """The numbers of every tensor at a step; None for one that had no gradient then."""

    step: int
    seconds: float | None
    lr: tuple[float | None, ...]
    tensors: tuple[Seen | None, ...]


@dataclass(frozen=True)
class Happening:
    """An event: what was seen at a step, and what a guard did."""

    step: int
    batch: str
    what: str
    action: str
    layers: tuple[str, ...]
    values: Mapping[str, float | None]


@dataclass(frozen=True)
class Header:
    """The first line: of which optimizer, how often it was looked at, and its tensors."""

    optimizer: str
    every: int
    sample: int | None
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    groups: tuple[int, ...]


@dataclass(frozen=True)
class Watched:
    """A training as it was watched; `losses` and `edges` (sharpness over its limit) by step."""

    path: Path
    header: Header
    cut_off: bool
    looks: list[Look] = field(default_factory=list)
    losses: dict[int, float | None] = field(default_factory=dict)
    events: list[Happening] = field(default_factory=list)
    edges: dict[int, float | None] = field(default_factory=dict)

    def series(self, tensor: int, number: str) -> list[float | None]:
        """A number of one tensor over the looks: of the rates their median."""
        found = [look.tensors[tensor] for look in self.looks]
        return [None if seen is None else seen.value(number) for seen in found]


def watch_files(path: Path) -> list[Path]:
    """The files to draw: the one that is named, or all of a folder that holds no records."""
    if path.is_dir():
        if any(path.glob(f"{RECORDS}*")):  # packed ones, too
            return []
        return [file for file in sorted(path.glob("*.jsonl")) if _begins_as_one(file)]
    return [path] if path.suffix == ".jsonl" and path.name != RECORDS else []


def _begins_as_one(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return FORMAT.encode() in file.read(100)
    except OSError:
        return False


def load(path: Path) -> Watched:
    """Read a file, without a last line that was cut off. LabError names the line that is wrong."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LabError(
            f"cannot read {path}: {error.strerror}; name a file that meansquare.watch wrote."
        ) from error
    return parsed(path, content)


def parsed(path: Path, content: bytes) -> Watched:
    """What is in a file of this content."""
    lines = _lines(path, content)
    first = next(lines, None)
    if first is None or first[1].get("format") != FORMAT:
        raise LabError(f"{path} was not written by meansquare.watch: its first line is no header.")
    with _Checked(path, 1):
        watched = Watched(path, _header(first[1]), cut_off=not content.endswith(b"\n"))
    for number, line in lines:
        with _Checked(path, number):
            _add(watched, line)
    return watched


def _lines(path: Path, content: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every whole line with its number; what follows the last line's end is left out."""
    start, number = 0, 0
    while (end := content.find(b"\n", start)) >= 0:
        number += 1
        with _Checked(path, number):
            line = _json(content[start:end])
        yield number, line
        start = end + 1


class _Checked:
    """Says in one line which line of which file does not hold what it must."""

    def __init__(self, path: Path, number: int) -> None:
        self._path, self._number = path, number

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        if isinstance(error, (KeyError, ValueError)):
            what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise LabError(
                f"{self._path} line {self._number} is damaged: {what}; "
                "remove that line, or watch again."
            ) from error


def _json(line: bytes) -> dict[str, Any]:
    try:
        return _object("a line", json.loads(line))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError("it is not JSON") from error


def _header(line: dict[str, Any]) -> Header:
    if line["version"] != VERSION:
        raise ValueError(f"version must be {VERSION}, got {shown(line['version'])}")
    tensors = [_object("a tensor", tensor) for tensor in _list("tensors", line["tensors"])]
    sample = line.get("sample")
    return Header(
        _text("optimizer", line["optimizer"]),
        _count("every", line["every"]),
        None if sample is None else _count("sample", sample),
        tuple(_text("name", tensor["name"]) for tensor in tensors),
        tuple(
            tuple(_count("a size", size) for size in _list("shape", tensor["shape"]))
            for tensor in tensors
        ),
        tuple(_count("group", tensor["group"]) for tensor in tensors),
    )


def _add(watched: Watched, line: dict[str, Any]) -> None:
    kind = line["kind"]
    if kind == "look":
        watched.looks.append(_look(line, len(watched.header.names)))
    elif kind == "losses":
        first, values = _count("first", line["first"]), _list("values", line["values"])
        watched.losses.update(enumerate((_number("a loss", v) for v in values), start=first))
    elif kind == "event":
        watched.events.append(_event(line))
    elif kind == "sharpness":
        watched.edges[_count("step", line["step"])] = _number("edge", line["edge"])
    else:
        raise ValueError(f"kind must be look, losses, event or sharpness, got {shown(kind)}")


def _look(line: dict[str, Any], count: int) -> Look:
    return Look(
        _count("step", line["step"]),
        _number("seconds", line["seconds"]),
        tuple(_number("lr", rate) for rate in _list("lr", line["lr"])),
        tuple(
            None if seen is None else _seen(_object("a tensor", seen))
            for seen in _list("tensors", line["tensors"], count)
        ),
    )


def _seen(seen: dict[str, Any]) -> Seen:
    rate = seen["rate"]
    if rate is not None:
        rate = tuple(_number("rate", value) for value in _list("rate", rate, 5))
    return Seen(rate, *(_number(name, seen[name]) for name in NUMBERS))


def _event(line: dict[str, Any]) -> Happening:
    batch, values = line["batch"], _object("values", line["values"])
    return Happening(
        _count("step", line["step"]),
        batch if isinstance(batch, str) else shown(batch),
        _text("what", line["what"]),
        _text("action", line["action"]),
        tuple(_text("a layer", layer) for layer in _list("layers", line["layers"])),
        {name: _number(name, value) for name, value in values.items()},
    )


def _number(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            if math.isfinite(value):
                return float(value)
        except OverflowError:  # an integer of hundreds of digits
            pass
    raise ValueError(f"{name} must be a finite number or null, got {shown(value)}")


def _count(name: str, value: Any) -> int:
    if type(value) is int and 0 <= value < MOST_COUNTED:
        return value
    raise ValueError(f"{name} must be a count, got {shown(value)}")


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(f"{name} must be text, got {shown(value)}")


def _list(name: str, value: Any, length: int | None = None) -> list[Any]:
    if isinstance(value, list) and length in (None, len(value)):
        return value
    raise ValueError(f"{name} must be a list{f' of {length}' if length else ''}")


def _object(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise ValueError(f"{name} must be an object, got {shown(value)}")
