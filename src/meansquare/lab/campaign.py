"""A campaign: the study's runs done in a folder, continued where they stopped, and published."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from meansquare.lab import record, report, terminal
from meansquare.lab.compare import choose, summarize
from meansquare.lab.errors import LabError
from meansquare.lab.files import unwritable
from meansquare.lab.record import Folder, Journal, Record
from meansquare.lab.schedule import Crew, Finished
from meansquare.lab.setups import SETUPS, setup_of
from meansquare.lab.study import Plan, Study

STOPPED = 130


def conduct(study: Study, out: Path, jobs: int, console: Console) -> int:
    """Do what is missing of `study` in the folder `out`, print the table and write the report."""
    try:
        _prepare_folder(study, out)
        with Journal(out) as journal:
            if journal.folder.notice:
                notice = f"{out / record.FILE_NAME}: {journal.folder.notice}."
                console.print(notice, highlight=False, soft_wrap=True)
            _train(study, journal, jobs, console)
        _publish(record.load(out), console)
    except KeyboardInterrupt:
        _say_how_to_continue(study, out)
        return STOPPED
    return 0


def publish_finished(out: Path, console: Console) -> None:
    """Write the report of a folder whose runs are all there."""
    folder = record.load(out)
    study = study_of(folder)
    left = len(folder.missing(study.tuning() + study.final(choose(folder.records))))
    if left:
        raise LabError(
            f"{out} is not finished, {left} runs are missing; continue with: "
            f"{study.command} --out {shlex.quote(str(out))}"
        )
    _publish(folder, console)


def study_of(folder: Folder) -> Study:
    """The study that a folder's header describes."""
    protocol = folder.protocol
    return Study(
        tasks=tuple(protocol["tasks"]),
        optimizers=tuple(protocol["optimizers"]),
        budget=protocol["budget"],
        seeds=protocol["seeds"],
        epochs=protocol["epochs"],
    )


def _prepare_folder(study: Study, out: Path) -> None:
    _require_folder(out)
    if not record.exists(out):
        _create_folder(study, out)
    folder = record.load(out)
    record.require_same(folder, study.protocol)
    own = {name: setup for name, setup in _setups(study).items() if name not in SETUPS}
    record.require_same_setups(folder, own)


def _create_folder(study: Study, out: Path) -> None:
    from meansquare.lab.tasks import load_task

    facts = {name: asdict(load_task(name).facts) for name in study.tasks}
    record.create(out, study.protocol, facts, _setups(study))


def _setups(study: Study) -> dict[str, dict[str, str]]:
    return {
        setup.name: {"label": setup.label, "call": setup.call}
        for setup in map(setup_of, study.optimizers)
    }


def _require_folder(out: Path) -> None:
    try:
        place = next(place for place in (out, *out.parents) if place.exists())
    except OSError as error:
        raise unwritable(out, error) from error
    if not place.is_dir():
        raise LabError(f"--out {out}: {place} is a file, a folder is wanted; choose another --out.")
    if place != out or record.exists(out):
        return
    others = sorted(entry.name for entry in out.iterdir() if not entry.name.startswith("."))
    if others:
        raise LabError(
            f"--out {out}: holds {others[0]!r} but no {record.FILE_NAME}; "
            "choose a new or empty folder, nothing was changed."
        )


def _train(study: Study, journal: Journal, jobs: int, console: Console) -> None:
    folder = journal.folder
    tuning = folder.missing(study.tuning())
    records = list(folder.records)
    ahead = tuning + folder.missing(study.final(_rates_so_far(study, folder, bool(tuning))))
    if not ahead:
        return
    if folder.records:
        console.print(f"{len(folder.records)} runs are recorded, {len(ahead)} are left.")
    jobs = min(jobs, len(ahead))
    with Crew(jobs) as crew, terminal.Display(console, ahead, jobs) as display:
        records += _do(crew, display, journal, tuning)
        _do(crew, display, journal, folder.missing(study.final(choose(records))))


def _rates_so_far(study: Study, folder: Folder, tuning: bool) -> dict[tuple[str, str], float]:
    chosen = choose(folder.records)
    if not tuning:
        return chosen
    # Before tuning is done the rates are unknown, but the number of final runs is not.
    places = [(task, optimizer) for task in study.tasks for optimizer in study.optimizers]
    return dict.fromkeys(places, study.learning_rates[0]) | chosen


def _do(
    crew: Crew, display: terminal.Display, journal: Journal, plans: Sequence[Plan]
) -> list[Record]:
    records = []
    for event in crew.train(plans):
        if isinstance(event, Finished):
            journal.append(event.record)
            records.append(event.record)
        display.show(event)
    return records


def _publish(folder: Folder, console: Console) -> None:
    summary = summarize(folder)
    terminal.print_summary(console, summary)
    page = report.write(summary, study_of(folder).command, folder.path)
    console.print(f"Report: {page}", highlight=False, soft_wrap=True)


def _say_how_to_continue(study: Study, out: Path) -> None:
    done = len(record.load(out).records) if record.exists(out) else 0
    print(
        f"meansquare compare: stopped; {done} runs are kept, continue with: "
        f"{study.command} --out {shlex.quote(str(out))}",
        file=sys.stderr,
    )
