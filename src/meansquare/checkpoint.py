"""Checkpoints: the optimizer's state dict out of a file, which is read as data and runs nothing."""

import os
import pickletools
import re
import stat
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import torch

from meansquare.settings import shown
from meansquare.state import check_form

DEEPEST = 100  # tuples in one another; Python ends at a hash of a few 100,000
_ZIP, _LEGACY_PICKLES, _CHUNK, _LONGEST = b"PK\x03\x04", 5, 1 << 20, 160
_BUILDS, _CALLS = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}, {"REDUCE", "NEWOBJ"}
_GETS, _PUTS = {"BINGET", "LONG_BINGET", "GET"}, {"BINPUT", "LONG_BINPUT", "PUT"}
_GLOBALS = {"GLOBAL", "STACK_GLOBAL"}
_MARK, _NAME = -2, -1  # on the stack of a pickle, among the depths
_CODE = re.compile(r"GLOBAL (\S+) (?:was not an allowed global|whose module)")
_INNER = re.compile(r"WeightsUnpickler error:\s*(.+)")


def _effect(opcode: pickletools.OpcodeInfo) -> tuple[str, bool, int, list[str]]:
    """Its name, whether it takes all down to a mark, how many it takes besides, what it leaves."""
    before = [item.name for item in opcode.stack_before]
    slices = "stackslice" in before
    wanted = len(before) - 2 * slices
    return opcode.name, slices, wanted, [item.name for item in opcode.stack_after]


_EFFECTS = {opcode.code: _effect(opcode) for opcode in pickletools.opcodes}


class _RefusedError(ValueError):
    """What is wrong with a file, in our words."""


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The state dict of an optimizer in a file written by `torch.save`, its tensors on the CPU.

    The file holds the state dict itself, or a dict that has it at one of its keys, alone or in a
    list. It is read as tensors, numbers, texts and containers of these; anything else in it is
    refused and not run. Checksums, which torch does not look at, are compared where there are any.

    Raises OSError where the file cannot be opened, and ValueError where it is damaged, holds code,
    or holds no state dict or several; TypeError where `path` is none. Each is one line.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(
            f"meansquare: the path of a checkpoint must be a str or Path, got {shown(path)}"
        )
    try:
        held = _read(Path(path))
        found = _state_dict_in(held)
        _check(found)
    except OSError as error:
        what = f"{error.strerror or error}; give the path of a file that torch.save wrote"
        raise type(error)(f"meansquare: cannot read {_plain(path)}: {_plain(what)}") from error
    except Exception as error:
        raise ValueError(f"meansquare: cannot read {_plain(path)}: {_reason(error)}") from error
    return dict(found)


def _check(found: Any) -> None:
    try:
        check_form(found)
    except (TypeError, ValueError) as error:
        raise _RefusedError(str(error)) from error


def _read(path: Path) -> Any:
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(None, "it is not a file")
    with open(path, "rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of what is read or refused all the same
        _check_file(file)
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True, mmap=False)


def _state_dict_in(held: Any) -> Mapping[str, Any]:
    found = list(_state_dicts(held))
    if len(found) == 1:
        return found[0][1]
    if found:
        places = ", ".join(place for place, _ in found[:4]) + (", ..." if found[4:] else "")
        raise _RefusedError(
            f"it holds {len(found)} state dicts, at {places}; save one in a file of its own"
        )
    what = f"a dict of {shown(list(held))}" if isinstance(held, Mapping) else shown(held)
    raise _RefusedError(f"it holds no state dict of an optimizer but {what}; save opt.state_dict()")


def _state_dicts(held: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Where in a file's content there are state dicts of optimizers: it, or values of it."""
    if _is_state_dict(held):
        yield "", held
    elif isinstance(held, Mapping):
        for key, value in held.items():
            if _is_state_dict(value):
                yield shown(key), value
            elif isinstance(value, (list, tuple)):
                inner = [(i, one) for i, one in enumerate(value) if _is_state_dict(one)]
                yield from ((f"{shown(key)}[{i}]", one) for i, one in inner)


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, Mapping) and "state" in value and "param_groups" in value


def _check_file(file: IO[bytes]) -> None:
    """Refuse what torch would take without looking, or would not survive reading."""
    size = os.fstat(file.fileno()).st_size
    if file.read(len(_ZIP)) == _ZIP:
        _check_zip(file, size)
        return
    file.seek(0)
    for _ in range(_LEGACY_PICKLES):
        _check_pickle(file)
        if file.tell() == size:
            return


def _check_zip(file: IO[bytes], size: int) -> None:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > size:
            raise _RefusedError(
                "it claims more bytes than it has (torch.save never packs them); save it anew"
            )
        for entry in entries:
            if entry.CRC == 0:  # where torch was told to write none; without one, none is compared
                del entry.CRC
            with archive.open(entry) as part:
                while part.read(_CHUNK):
                    pass
            if entry.filename.lower().endswith("data.pkl"):  # torch finds it in capitals, too
                _check_pickle(BytesIO(archive.read(entry)))


def _check_pickle(file: IO[bytes]) -> None:
    """Follow one pickle without doing what it says; refuse deep tuples and calls of no name.

    Python would end at hashing the first, and torch would spell out the second in a message.
    """
    stack: list[int] = []
    memo: dict[Any, int] = {}
    for opcode, argument, _ in pickletools.genops(file):
        name, slices, wanted, left = _EFFECTS[opcode.code]
        taken = _take(stack, slices, wanted)
        depth = max(taken) if taken else 0
        if name in _BUILDS or name in _CALLS:
            depth = max(depth, 0) + 1
        if depth > DEEPEST or (name in _CALLS and taken[0] != _NAME):
            raise _RefusedError("torch.save writes no such nesting or call; take an undamaged copy")
        if name in _GLOBALS:
            depth = _NAME
        elif name in _GETS:
            depth = memo.get(argument, 0)  # torch refuses what is not there
        elif name in _PUTS:
            memo[argument] = stack[-1]
        stack += [_MARK if item == "mark" else depth for item in left]


def _take(stack: list[int], slices: bool, wanted: int) -> list[int]:
    """Take so many from the stack, or so many below a mark and all above it."""
    if slices:
        top = len(stack) - 1
        while top >= 0 and stack[top] != _MARK:
            top -= 1
        wanted += len(stack) - top
    if wanted > len(stack):
        raise ValueError("a pickle that takes what is not there")
    start = len(stack) - wanted
    taken = stack[start:]
    del stack[start:]
    return taken


def _reason(error: Exception) -> str:
    """What was wrong, on a line, from whatever torch, zipfile or Python said."""
    text = str(error)
    if isinstance(error, _RefusedError):
        return _plain(text)
    if code := _CODE.search(text):
        name = _plain(code[1])
        return (
            f"it holds code that torch does not run ({name}); "
            "save state dicts of tensors and numbers only"
        )
    if isinstance(error, MemoryError) or "can't allocate memory" in text:
        return "it asks for more memory than there is; take an undamaged copy"
    inner = _INNER.search(text)
    said = inner[1] if inner else next(iter(text.splitlines()), "")
    said = said if " " in said else type(error).__name__
    return f"it is damaged or no checkpoint ({_plain(said)}); take an undamaged copy"


def _plain(text: Any) -> str:
    """One line of printable characters; names in a file can be anything."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(str(text).split()))
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
