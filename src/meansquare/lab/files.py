"""Whole-file writes: a reader sees the old file or the new one, never half of either."""

from __future__ import annotations

import os
from pathlib import Path

from meansquare.lab.errors import LabError


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` to `path` in one step; on failure `path` is as before and LabError says why."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        _write_synced(draft, content)
        os.replace(draft, path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise unwritable(path, error) from error


def make_folder(path: Path) -> None:
    """Create `path` and its parents; an existing folder is fine."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> LabError:
    """The sentence for a disk that is full, read-only or not ours."""
    reason = error.strerror or str(error)
    return LabError(
        f"cannot write {path}: {reason}; make room or permission there, or choose another --out."
    )


def _write_synced(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
