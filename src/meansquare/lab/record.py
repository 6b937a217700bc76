"""Records: one JSON line per finished run.

`records.jsonl` starts with a header (schema, protocol, facts of the tasks), which is written whole;
every other line is one run. A line that is damaged is told with its number and skipped: its run
counts as not done. Only a last line without its line end counts as cut off by a kill.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from meansquare.lab.errors import LabError
from meansquare.lab.files import create_file, make_folder
from meansquare.lab.schema import CURVES, RUN, fault, header_fault
from meansquare.lab.space import Settings
from meansquare.lab.study import Phase, Plan, fingerprint, key_of
from meansquare.settings import shown

SCHEMA = 2
FILE_NAME = "records.jsonl"
PACKED_NAME = FILE_NAME + ".xz"  # of a result that is published: read, never written to
Status = Literal["ok", "diverged"]
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Record:
    """What one run left: losses and metrics per period, times in seconds; `_at`: up to a period.

    `series` is what else the task tells, such as the way over a surface.
    """

    phase: Phase
    task: str
    optimizer: str
    settings: Settings
    seed: int
    epochs: int
    status: Status
    diverged_at: int | None
    train_loss: tuple[float, ...]
    validation_loss: tuple[float, ...]
    validation_metric: tuple[float, ...]
    test_metric: float | None
    series: Mapping[str, tuple[float, ...]]
    steps: int
    steps_at: tuple[int, ...]
    step_us: float
    optimizer_seconds: float
    optimizer_seconds_at: tuple[float, ...]
    training_seconds: float
    training_seconds_at: tuple[float, ...]
    made_by: Mapping[str, Any]

    @property
    def key(self) -> Key:
        return key_of(self.phase, self.task, self.optimizer, self.settings, self.seed)

    @property
    def lr(self) -> float:
        return self.settings["lr"]

    @property
    def last_loss(self) -> float | None:
        """The validation loss that a setting is chosen by; None where the run diverged."""
        return self.validation_loss[-1] if self.status == "ok" else None


@dataclass(frozen=True)
class Folder:
    """A run folder as read: `notices` say what was skipped, `size` is where the next line goes."""

    path: Path
    protocol: Mapping[str, Any]
    facts: Mapping[str, Mapping[str, Any]]
    setups: Mapping[str, Mapping[str, str]]
    records: tuple[Record, ...]
    notices: tuple[str, ...] = ()
    size: int = 0

    def missing(self, plans: list[Plan]) -> list[Plan]:
        done = {record.key for record in self.records}
        return [plan for plan in plans if plan.key not in done]

    def losses(self) -> dict[Key, float | None]:
        """By the keys of its tuning runs, what a setting is chosen by."""
        return {record.key: record.last_loss for record in self.records if record.phase == "tune"}


def encode(record: Record) -> str:
    """One line of JSON, without its line end; non-finite numbers are refused."""
    return json.dumps(asdict(record), allow_nan=False, separators=(",", ":"))


def decode(line: str | bytes) -> Record:
    """The record in a line; ValueError says what is wrong with it."""
    raw = _object(line)
    if wrong := fault(raw, RUN):
        raise ValueError(wrong)
    raw.update((name, tuple(raw[name])) for name in CURVES)
    raw["series"] = {name: tuple(values) for name, values in raw["series"].items()}
    return Record(**raw)


def exists(folder: Path) -> bool:
    return (folder / FILE_NAME).exists()


def readable(folder: Path) -> bool:
    """Whether there are records to `load`, be they packed."""
    return exists(folder) or (folder / PACKED_NAME).exists()


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
    """Read a run folder without changing it; LabError where there is no header to go by."""
    packed = readable(folder) and not exists(folder)
    path = folder / (PACKED_NAME if packed else FILE_NAME)
    try:
        content = lzma.decompress(path.read_bytes()) if packed else path.read_bytes()
    except (OSError, lzma.LZMAError) as error:
        what = getattr(error, "strerror", None) or str(error)
        raise LabError(f"cannot read {path}: {what}; is {folder} a run folder?") from error
    whole, cut, tail = content.rpartition(b"\n")
    lines = whole.split(b"\n") if cut else []
    if not lines:
        raise _damaged(path, "the header is missing")
    header = _read_header(path, lines[0])
    records, notices = _read_records(lines[1:], header["protocol"])
    if tail:
        notices.append("the last line was cut off and is dropped; its run is done again")
    return Folder(
        path=folder,
        protocol=header["protocol"],
        facts=header["tasks"],
        setups=header["setups"],
        records=records,
        notices=tuple(f"{path}: {notice}" for notice in notices),
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


def require_same_files(folder: Folder, setups: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """LabError unless users' optimizers and tasks are still those that the folder began with."""
    theirs = {
        **{name: setup["call"] for name, setup in folder.setups.items()},
        **_notes(folder.facts),
    }
    ours = {**{name: setup["call"] for name, setup in setups.items()}, **_notes(facts)}
    for name in ours:
        if theirs[name] != ours[name]:
            raise LabError(
                f"{folder.path} belongs to another {name} ({theirs[name]} there, {ours[name]} now);"
                " choose another --out."
            )


def _notes(facts: Mapping[str, Any]) -> dict[str, str]:
    return {name: fact["notes"] for name, fact in facts.items()}


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
        raise _damaged(path, f"the header is {error}") from error
    if header.get("schema") != SCHEMA:
        raise _damaged(path, f"schema {shown(header.get('schema'))} where {SCHEMA} is read")
    if wrong := header_fault(header):
        raise _damaged(path, f"the header's {wrong}")
    if header.get("fingerprint") != fingerprint(header["protocol"]):
        raise _damaged(path, "the fingerprint does not fit the protocol")
    return header


def _read_records(
    lines: list[bytes], protocol: Mapping[str, Any]
) -> tuple[tuple[Record, ...], list[str]]:
    """The runs in these lines, which follow the header's, and what is wrong with the others."""
    records: dict[Key, Record] = {}
    notices = []
    for number, line in enumerate(lines, start=2):
        try:
            record = decode(line)
            if wrong := _misfit(record, protocol, records):
                raise ValueError(wrong)
            records[record.key] = record
        except ValueError as error:
            notices.append(f"line {number} is damaged and skipped: {error}")
    return tuple(records.values()), notices


def _misfit(record: Record, protocol: Mapping[str, Any], others: Mapping[Key, Record]) -> str:
    if record.key in others:
        return "the same run a second time"
    if not _belongs(record, protocol):
        return "a run that is not in the header's protocol"
    return "" if _is_whole(record) else "a run whose periods and status do not go together"


def _belongs(record: Record, protocol: Mapping[str, Any]) -> bool:
    if record.task not in protocol["tasks"] or record.optimizer not in protocol["optimizers"]:
        return False
    seeds = range(1, protocol["seeds"] + 1)
    searched = {"lr", *(axis["name"] for axis in protocol["axes"][record.optimizer])}
    return (
        record.seed in (seeds if record.phase == "final" else [protocol["tuning_seed"]])
        and record.settings.keys() == searched
        and record.epochs == protocol["epochs"][record.task]
    )


def _is_whole(record: Record) -> bool:
    """Whether a run that ended well has all of its periods, and one that did not no result."""
    periods = {len(getattr(record, name)) for name in CURVES if name != "validation_loss"}
    validated = len(record.validation_loss)
    if record.status == "diverged":
        of_curves = max(periods) <= record.epochs and max(periods) - validated in (0, 1)
        return of_curves and record.diverged_at is not None and record.test_metric is None
    tested = (record.test_metric is not None) == (record.phase == "final")
    return periods == {record.epochs} == {validated} and tested and record.diverged_at is None


def _damaged(path: Path, what: str) -> LabError:
    return LabError(f"{path} line 1 is damaged: {what}; restore the file or choose another folder.")
