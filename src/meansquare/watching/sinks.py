"""Where a watcher writes: JSON lines, TensorBoard, or whatever can be called."""

import math
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from meansquare.watching.lines import Compact, Line, text_of

Sink = Callable[[Line], Any]
TENSORBOARD = "tensorboard:"


class LostError(OSError):
    """That so many lines could not be written, and why."""

    def __init__(self, lines: int, why: OSError) -> None:
        super().__init__(why.errno, why.strerror or str(why))
        self.lines = lines


class Guarded:
    """Several sinks, none of which can stop training: a failure is told once, and counted."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks, self._told = sinks, set[int]()
        self.dropped = 0

    def __call__(self, line: Line | Compact) -> None:
        told: Line | None = None
        for i, sink in enumerate(self._sinks):
            try:
                if isinstance(sink, JsonLines):
                    sink(line)
                    continue
                if told is None:
                    told = line if isinstance(line, dict) else line.told()
                sink(told)
            except Exception as error:
                self._tell(i, error)

    def close(self) -> None:
        for i, sink in enumerate(self._sinks):
            try:
                getattr(sink, "close", lambda: None)()
            except Exception as error:
                self._tell(i, error)

    def _tell(self, i: int, error: Exception) -> None:
        self.dropped += error.lines if isinstance(error, LostError) else 1
        if i not in self._told:
            self._told.add(i)
            what = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
            warnings.warn(
                f"watch: cannot write to {_name(self._sinks[i])} ({what}); training goes on, and "
                "what is lost is counted in watcher.dropped",
                RuntimeWarning,
                stacklevel=3,
            )


def _name(sink: Sink) -> str:
    return str(getattr(sink, "place", None) or getattr(sink, "__name__", type(sink).__name__))


def sinks_of(to: Any) -> tuple[list[Sink], Path | None]:
    """The sinks that `to` asks for, and the file of JSON lines if one is among them.

    Raises TypeError for what is none, RuntimeError where TensorBoard is not installed.
    """
    made: list[Sink] = []
    path = None
    for one in to if isinstance(to, (list, tuple)) else [to]:
        if isinstance(one, str) and one.startswith(TENSORBOARD):
            made.append(TensorBoard(_events_in(one.removeprefix(TENSORBOARD))))
        elif isinstance(one, (str, os.PathLike)):
            lines = JsonLines(free_name(Path(one)))
            path = path or lines.place
            made.append(lines)
        elif hasattr(one, "add_scalar"):
            made.append(TensorBoard(one.add_scalar, type(one).__name__))
        elif callable(one):
            made.append(one)
        else:
            raise TypeError(
                "watch: to must be a path, 'tensorboard:FOLDER', a SummaryWriter or a function, "
                f"got {type(one).__name__}"
            )
    made.sort(key=lambda sink: not isinstance(sink, JsonLines))  # others may change what they get
    return made, path


def free_name(path: Path) -> Path:
    """A name at which there is no file: `watch.jsonl`, else `watch-2.jsonl`, ...; of a rank with
    its number.
    """
    if rank := _rank():
        path = path.with_name(f"{path.stem}.rank{rank}{path.suffix}")
    free, number = path, 1
    while free.exists():
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free


def _rank() -> int:
    import torch.distributed as dist

    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


HELD = 1.0  # seconds


class JsonLines:
    """A file with a line for each thing told, whole lines only; it is made with the first one.

    What is told at every look is written once a second at most, since that takes longer than the
    look; what happens seldom is written at once, with all before it.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self._size = 0
        self._held: list[str | Compact] = []
        self._written = -math.inf

    def __call__(self, line: Line | Compact) -> None:
        # What another sink may change is put down at once.
        self._held.append(text_of(line) if isinstance(line, dict) else line)
        can_wait = not isinstance(line, dict) or line.get("kind") == "look"
        if not can_wait or time.monotonic() - self._written >= HELD:
            self.close()

    def close(self) -> None:
        """Write what is held."""
        lines, self._held = self._held, []
        self._written = time.monotonic()
        if lines:
            try:
                texts = [line if isinstance(line, str) else line.text() for line in lines]
                self._write("\n".join([*texts, ""]).encode())
            except OSError as why:
                raise LostError(len(lines), why) from None

    def _write(self, text: bytes) -> None:
        if not self._size:
            self.place.parent.mkdir(parents=True, exist_ok=True)
        with open(self.place, "r+b" if self._size else "xb", buffering=0) as file:
            file.seek(self._size)
            try:
                if file.write(text) != len(text):
                    raise OSError(None, "no space left for a whole line")
            except OSError:
                file.truncate(self._size)
                raise
        self._size += len(text)


class TensorBoard:
    """Scalars: one for each number of each tensor, the median of the rates."""

    def __init__(self, add: Callable[[str, float, int], Any], name: str = "") -> None:
        self._add, self._names = add, list[str]()
        self.place = name or getattr(add, "place", "TensorBoard")

    def __call__(self, line: Line) -> None:
        kind = line.get("kind")
        if "tensors" in line and kind is None:
            self._names = [tensor["name"] for tensor in line["tensors"]]
        elif kind == "losses":
            for step, value in enumerate(line["values"], start=line["first"]):
                self._add("loss", value, step)
        elif kind == "look":
            for name, seen in zip(self._names, line["tensors"], strict=True):
                self._tell_tensor(name, seen or {}, line["step"])
        elif kind == "sharpness":
            self._add("edge", line["edge"], line["step"])
        elif kind == "event":
            self._add(f"event/{line['action']}", 1.0, line["step"])

    def _tell_tensor(self, name: str, seen: Mapping[str, Any], step: int) -> None:
        for what, value in seen.items():
            number = value[len(value) // 2] if isinstance(value, list) else value
            if number is not None:
                self._add(f"{what}/{name}", number, step)

    def close(self) -> None:
        getattr(self._add, "close", lambda: None)()


class _events_in:  # noqa: N801 - a function that has to be closed
    """Adds scalars to event files in a folder, by TensorBoard's own writer."""

    def __init__(self, folder: str) -> None:
        try:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            raise RuntimeError(
                f"watch: {TENSORBOARD}{folder} needs tensorboard; run: pip install tensorboard"
            ) from None
        self.place = folder
        self._writer = EventFileWriter(folder)

    def __call__(self, tag: str, value: float, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore
        from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore

        summary = Summary(value=[Summary.Value(tag=tag, simple_value=float(value))])
        self._writer.add_event(Event(step=step, wall_time=time.time(), summary=summary))

    def close(self) -> None:
        self._writer.close()
