"""Whole-file writes (a reader sees the old file or the new one, never half); users' modules."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from meansquare.lab.errors import LabError


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` to `path` in one step; on failure `path` is as before, LabError says why."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        _write_synced(draft, content)
        os.replace(draft, path)
    except OSError as error:
        _discard(draft)
        raise unwritable(path, error) from error


def create_file(path: Path, content: bytes) -> None:
    """Write `content` to `path` in one step unless the file exists; then it stays as it is."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        _write_synced(draft, content)
        _link(draft, path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        _discard(draft)


def create_new_file(path: Path, content: bytes) -> None:
    """Write `content` to a file that must not be there yet."""
    if path.exists():
        raise LabError(f"{path} is there already and was not changed; name another file.")
    create_file(path, content)


def make_folder(path: Path) -> None:
    """Create `path` and its parents; an existing folder is fine."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error


def imported_file(path: Path) -> ModuleType:
    """A user's module by its file, once; it may import what lies beside it."""
    path = path.resolve()
    known = f"_of_a_user_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if known in sys.modules:
        return sys.modules[known]
    spec = importlib.util.spec_from_file_location(known, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ImportError(f"no file {path}")
    module = sys.modules[known] = importlib.util.module_from_spec(spec)
    sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[known]
        raise
    return module


def unwritable(path: Path, error: OSError) -> LabError:
    """The sentence for a disk that is full, read-only or not ours."""
    reason = error.strerror or str(error)
    return LabError(
        f"cannot write {path}: {reason}; make room or permission there, or choose another --out."
    )


def _link(draft: Path, path: Path) -> None:
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    except OSError:
        # FAT and some network mounts have no hard links.
        os.replace(draft, path)


def _discard(draft: Path) -> None:
    with suppress(OSError):
        draft.unlink()


def _write_synced(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
