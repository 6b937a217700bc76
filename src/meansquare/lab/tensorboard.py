"""The curves of a run folder as TensorBoard reads them; needs the package tensorboard, no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from meansquare.lab import record
from meansquare.lab.errors import LabError
from meansquare.lab.files import unwritable
from meansquare.lab.record import Record

CURVES = {
    "loss/training": "train_loss",
    "loss/validation": "validation_loss",
    "metric/validation": "validation_metric",
}


def export(folder: Path, target: Path) -> str:
    """Write an event file for every run of `folder` below `target`, in place of an earlier one.

    Returns what was done. A run that diverged has its curves up to there.
    """
    try:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError as error:
        raise LabError("--tensorboard needs tensorboard; run: pip install tensorboard") from error
    runs = record.load(folder).records
    for run in runs:
        place = target / run.task.replace("/", "_") / run.optimizer.replace("/", "_") / _name(run)
        try:
            for earlier in place.glob("events.out.tfevents.*"):
                earlier.unlink()
            writer = EventFileWriter(str(place))
            for event in _events(run):
                writer.add_event(event)
            writer.close()
        except OSError as error:
            raise unwritable(place, error) from error
    return f"TensorBoard: {len(runs)} runs in {target}; look with: tensorboard --logdir {target}"


def _name(run: Record) -> str:
    settings = ",".join(f"{name}={value:g}" for name, value in run.settings.items())
    return f"{run.phase},{settings},seed={run.seed}"


def _events(run: Record) -> list[Any]:
    """One event per number: at the step that it was measured after, as seconds of training."""
    moments = list(zip(run.steps_at, run.training_seconds_at, strict=True))
    events = [
        _event(tag, value, *moment)
        for tag, name in CURVES.items()
        for value, moment in zip(getattr(run, name), moments, strict=False)
    ]
    if run.test_metric is not None:
        events.append(_event("metric/test", run.test_metric, *moments[-1]))
    return events


def _event(tag: str, value: float, step: int, seconds: float) -> Any:
    from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore
    from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore

    summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
    return Event(step=step, wall_time=seconds, summary=summary)
