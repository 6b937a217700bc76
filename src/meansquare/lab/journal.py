"""The record file while it is written: a line is appended and synced, a kill loses one at most."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from meansquare.lab.errors import LabError
from meansquare.lab.files import unwritable
from meansquare.lab.record import FILE_NAME, Record, encode, load


class Journal:
    """The open record file of one folder; only one process can hold it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        try:
            self._file = open(self._path, "r+b", buffering=0)  # noqa: SIM115 - held until close()
        except OSError as error:
            raise unwritable(self._path, error) from error
        try:
            _lock(self._file, folder)
            # Read under the lock: what another process wrote before it let go has to be seen.
            self.folder = load(folder)
        except LabError:
            self._file.close()
            raise
        self._size = self.folder.size

    def append(self, record: Record) -> None:
        """Write one line and sync it; after an error the file is as it was."""
        line = (encode(record) + "\n").encode()
        try:
            self._file.truncate(self._size)
            self._file.seek(self._size)
            if self._file.write(line) != len(line):
                raise OSError(None, "no space left for a whole line")
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(self._size)
            raise unwritable(self._path, error) from error
        self._size += len(line)
        self.folder = replace(self.folder, records=(*self.folder.records, record))

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _lock(file: Any, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise LabError(f"another compare is writing to {folder}; wait for it.") from error
