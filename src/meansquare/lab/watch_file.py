"""The file that `meansquare.watch` writes, as it is read: looks, losses, events. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meansquare.lab.errors import LabError
from meansquare.settings import shown

FORMAT, VERSION = "meansquare-watch", 1
NUMBERS = (
    "eps_rules", "gradient", "update", "relative_update", "precursor", "dead", "stale", "nonfinite",
)  # fmt: skip


@dataclass(frozen=True)
class Look:
    """The numbers of every tensor at a step; None for one that had no gradient then."""

    step: int
    seconds: float
    lr: tuple[float | None, ...]
    tensors: tuple[Mapping[str, Any] | None, ...]


@dataclass(frozen=True)
class Happening:
    """An event: what was seen at a step, and what a guard did."""

    step: int
    batch: Any
    what: str
    action: str
    layers: tuple[str, ...]
    values: Mapping[str, float | None]


@dataclass(frozen=True)
class Watched:
    """A training as it was watched; `losses` and `edges` by step."""

    path: Path
    optimizer: str
    every: int
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    groups: tuple[int, ...]
    looks: tuple[Look, ...]
    losses: Mapping[int, float | None]
    events: tuple[Happening, ...]
    edges: Mapping[int, float | None]
    cut_off: bool

    def series(self, tensor: int, number: str) -> list[float | None]:
        """A number of one tensor over the looks: of the rates their median."""
        found = [look.tensors[tensor] for look in self.looks]
        return [None if seen is None else _middle(seen.get(number)) for seen in found]


def _middle(value: Any) -> float | None:
    return value[len(value) // 2] if isinstance(value, list) else value


def is_watch_file(path: Path) -> bool:
    """Whether it is named as one."""
    return path.suffix == ".jsonl" and path.name != "records.jsonl" and path.is_file()


def load(path: Path) -> Watched:
    """Read a file, without a last line that was cut off. LabError names the line that is wrong."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LabError(f"cannot read {path}: {error.strerror}.") from error
    return parsed(path, content)


def parsed(path: Path, content: bytes) -> Watched:
    """What is in a file of this content."""
    *lines, rest = content.split(b"\n")
    if not lines:
        raise _damaged(path, 1, "the header is missing")
    read = [_line(path, number, line) for number, line in enumerate(lines, start=1)]
    header = _header(path, read[0])
    looks, events = [], []
    losses: dict[int, float | None] = {}
    edges: dict[int, float | None] = {}
    for number, line in enumerate(read[1:], start=2):
        try:
            kind = line["kind"]
            if kind == "look":
                looks.append(_look(line, len(header["tensors"])))
            elif kind == "losses":
                losses |= enumerate(map(_number, line["values"]), start=_count(line["first"]))
            elif kind == "event":
                events.append(_event(line))
            elif kind == "sharpness":
                edges[_count(line["step"])] = _number(line["edge"])
            else:
                raise ValueError(f"unknown kind {shown(kind)}")
        except (KeyError, TypeError, ValueError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise _damaged(path, number, what) from error
    tensors = header["tensors"]
    return Watched(
        path,
        header["optimizer"],
        header["every"],
        tuple(tensor["name"] for tensor in tensors),
        tuple(tuple(tensor["shape"]) for tensor in tensors),
        tuple(tensor["group"] for tensor in tensors),
        tuple(looks),
        losses,
        tuple(events),
        edges,
        bool(rest),
    )


def _line(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, number, "it is not JSON") from error
    if not isinstance(parsed, dict):
        raise _damaged(path, number, "it is not a JSON object")
    return parsed


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _header(path: Path, header: dict[str, Any]) -> dict[str, Any]:
    if header.get("format") != FORMAT:
        raise LabError(f"{path} was not written by meansquare.watch: its first line is no header.")
    if header.get("version") != VERSION:
        raise _damaged(path, 1, f"version {shown(header.get('version'))} where {VERSION} is read")
    try:
        _text(header["optimizer"])
        _count(header["every"])
        for tensor in header["tensors"]:
            _text(tensor["name"])
            [_count(size) for size in tensor["shape"]]
            _count(tensor["group"])
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, 1, f"the header has no {error}") from error
    return header


def _look(line: Mapping[str, Any], count: int) -> Look:
    tensors = line["tensors"]
    if not isinstance(tensors, list) or len(tensors) != count:
        raise ValueError(f"tensors must be {count}")
    return Look(
        _count(line["step"]),
        float(line["seconds"]),
        tuple(_number(rate) for rate in line["lr"]),
        tuple(None if seen is None else _seen(seen) for seen in tensors),
    )


def _seen(seen: Mapping[str, Any]) -> Mapping[str, Any]:
    rate = seen["rate"]
    if rate is not None and (not isinstance(rate, list) or len(rate) != 5):
        raise ValueError("rate must be five quantiles")
    numbers = {name: _number(seen[name]) for name in NUMBERS}
    return {"rate": rate and [_number(value) for value in rate], **numbers}


def _event(line: Mapping[str, Any]) -> Happening:
    layers: Sequence[Any] = line["layers"]
    return Happening(
        _count(line["step"]),
        line["batch"],
        _text(line["what"]),
        _text(line["action"]),
        tuple(_text(layer) for layer in layers),
        {_text(name): _number(value) for name, value in line["values"].items()},
    )


def _number(value: Any) -> float | None:
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    raise ValueError(f"a number must be one or null, got {shown(value)}")


def _count(value: Any) -> int:
    if type(value) is int and value >= 0:
        return value
    raise ValueError(f"a count must be one, got {shown(value)}")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(f"a name must be text, got {shown(value)}")


def _damaged(path: Path, number: int, what: str) -> LabError:
    return LabError(f"{path} line {number} is damaged: {what}; remove that line, or watch again.")
