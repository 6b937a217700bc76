"""Records: one JSON line per finished run, appended and synced; a kill loses one run at most.

`records.jsonl` starts with a header (schema, protocol, facts of the tasks), which is written whole;
every other line is one run. Only a last line without its line end counts as cut off by a kill.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from meansquare.lab.errors import LabError
from meansquare.lab.files import create_file, make_folder, unwritable
from meansquare.lab.schema import CURVES, RUN, fault, header_fault
from meansquare.lab.study import Phase, Plan, fingerprint
from meansquare.settings import shown

SCHEMA = 1
FILE_NAME = "records.jsonl"
Status = Literal["ok", "diverged"]
Key = tuple[str, str, str, float, int]


@dataclass(frozen=True)
class Record:
    """What one run left: losses per epoch (validation starts before training), times in seconds."""

    phase: Phase
    task: str
    optimizer: str
    lr: float
    seed: int
    epochs: int
    status: Status
    diverged_at: int | None
    first_loss: float
    train_loss: tuple[float, ...]
    validation_loss: tuple[float, ...]
    validation_metric: tuple[float, ...]
    test_metric: float | None
    steps: int
    step_us: float
    optimizer_seconds: float
    training_seconds: float
    made_by: Mapping[str, Any]

    @property
    def key(self) -> Key:
        return (self.phase, self.task, self.optimizer, self.lr, self.seed)


@dataclass(frozen=True)
class Folder:
    """A run folder as read: `notice` says what was dropped, `size` is where the next line goes."""

    path: Path
    protocol: Mapping[str, Any]
    facts: Mapping[str, Mapping[str, Any]]
    setups: Mapping[str, Mapping[str, str]]
    records: tuple[Record, ...]
    notice: str | None
    size: int

    def missing(self, plans: list[Plan]) -> list[Plan]:
        done = {record.key for record in self.records}
        return [plan for plan in plans if plan_key(plan) not in done]


def plan_key(plan: Plan) -> Key:
    """The key of the record that `plan` will leave."""
    return (plan.phase, plan.task, plan.optimizer, plan.lr, plan.seed)


def encode(record: Record) -> str:
    """One line of JSON, without its line end; non-finite numbers are refused."""
    return json.dumps(asdict(record), allow_nan=False, separators=(",", ":"))


def decode(line: str | bytes) -> Record:
    """The record in a line; ValueError says what is wrong with it."""
    raw = _object(line)
    if wrong := fault(raw, RUN):
        raise ValueError(wrong)
    raw.update((name, tuple(raw[name])) for name in CURVES)
    return Record(**raw)


def exists(folder: Path) -> bool:
    return (folder / FILE_NAME).exists()


def create(
    folder: Path,
    protocol: Mapping[str, Any],
    facts: Mapping[str, Any],
    setups: Mapping[str, Any],
) -> None:
    """Make `folder` and its record file holding the header; an existing file stays as it is."""
    make_folder(folder)
    header = {
        "schema": SCHEMA,
        "fingerprint": fingerprint(protocol),
        "protocol": protocol,
        "tasks": facts,
        "setups": setups,
    }
    create_file(folder / FILE_NAME, (json.dumps(header, allow_nan=False) + "\n").encode())


def load(folder: Path) -> Folder:
    """Read a run folder without changing it; LabError names the first damaged line."""
    path = folder / FILE_NAME
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LabError(
            f"cannot read {path}: {error.strerror}; is {folder} a run folder?"
        ) from error
    whole, cut, tail = content.rpartition(b"\n")
    lines = whole.split(b"\n") if cut else []
    if not lines:
        raise _damaged(path, 1, "the header is missing")
    header = _read_header(path, lines[0])
    notice = "the last line was cut off and is dropped; its run is done again" if tail else None
    return Folder(
        path=folder,
        protocol=header["protocol"],
        facts=header["tasks"],
        setups=header["setups"],
        records=_read_records(path, lines[1:], header["protocol"]),
        notice=notice,
        size=len(whole) + 1,
    )


def require_same(folder: Folder, protocol: Mapping[str, Any]) -> None:
    """LabError unless the folder's runs were made under `protocol`."""
    if fingerprint(folder.protocol) == fingerprint(protocol):
        return
    names = sorted(folder.protocol.keys() | protocol.keys())
    name = next(n for n in names if folder.protocol.get(n) != protocol.get(n))
    theirs, ours = (json.dumps(p.get(name)) for p in (folder.protocol, protocol))
    raise LabError(
        f"{folder.path} belongs to another configuration ({name}: {theirs} there, {ours} asked);"
        " choose another --out or the same options."
    )


def require_same_setups(folder: Folder, setups: Mapping[str, Any]) -> None:
    """LabError unless the folder's optimizers are built by the same calls, of the same files."""
    for name in setups:
        theirs, ours = (one[name]["call"] for one in (folder.setups, setups))
        if theirs != ours:
            raise LabError(
                f"{folder.path} belongs to another {name} ({theirs} there, {ours} now);"
                " choose another --out."
            )


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


def _object(line: str | bytes) -> dict[str, Any]:
    try:
        text = line if isinstance(line, str) else line.decode()
        raw = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError("not JSON") from error
    if not isinstance(raw, dict):
        raise ValueError("not a JSON object")
    return raw


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _read_header(path: Path, line: bytes) -> dict[str, Any]:
    try:
        header = _object(line)
    except ValueError as error:
        raise _damaged(path, 1, f"the header is {error}") from error
    if header.get("schema") != SCHEMA:
        raise _damaged(path, 1, f"schema {shown(header.get('schema'))} where {SCHEMA} is read")
    if wrong := header_fault(header):
        raise _damaged(path, 1, f"the header's {wrong}")
    if header.get("fingerprint") != fingerprint(header["protocol"]):
        raise _damaged(path, 1, "the fingerprint does not fit the protocol")
    return header


def _read_records(
    path: Path, lines: list[bytes], protocol: Mapping[str, Any]
) -> tuple[Record, ...]:
    records: dict[Key, Record] = {}
    for number, line in enumerate(lines, start=2):
        try:
            record = decode(line)
        except ValueError as error:
            raise _damaged(path, number, f"not a run ({error})") from error
        if record.key in records:
            raise _damaged(path, number, "the same run a second time")
        if not _belongs(record, protocol):
            raise _damaged(path, number, "a run that is not in the header's protocol")
        if not _is_whole(record):
            raise _damaged(path, number, "a run whose epochs and status do not go together")
        records[record.key] = record
    return tuple(records.values())


def _belongs(record: Record, protocol: Mapping[str, Any]) -> bool:
    seeds = range(1, protocol["seeds"] + 1)
    return (
        record.seed in (seeds if record.phase == "final" else [protocol["tuning_seed"]])
        and record.task in protocol["tasks"]
        and record.optimizer in protocol["optimizers"]
        and record.lr in protocol["learning_rates"]
        and record.epochs == protocol["epochs"][record.task]
    )


def _is_whole(record: Record) -> bool:
    """Whether a run that ended well has all of its epochs, and one that did not no result."""
    trained, validated = len(record.train_loss), len(record.validation_loss)
    if validated != len(record.validation_metric) or not trained <= validated <= trained + 1:
        return False
    if record.status == "diverged":
        return record.diverged_at is not None and record.test_metric is None
    whole = trained == record.epochs and validated == record.epochs + 1
    tested = (record.test_metric is not None) == (record.phase == "final")
    return whole and tested and record.diverged_at is None


def _damaged(path: Path, line: int, what: str) -> LabError:
    return LabError(
        f"{path} line {line} is damaged: {what}; restore the file or choose another folder."
    )
