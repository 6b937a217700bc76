"""A campaign: the study's runs done in a folder, continued where they stopped, and published."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from meansquare.lab import record, report, terminal
from meansquare.lab.arms import choose
from meansquare.lab.compare import summarize
from meansquare.lab.errors import LabError
from meansquare.lab.files import unwritable
from meansquare.lab.journal import Journal
from meansquare.lab.record import Folder
from meansquare.lab.schedule import Crew, Engine, Finished
from meansquare.lab.setups import SETUPS, setup_of
from meansquare.lab.study import Plan, Study, study_of
from meansquare.lab.tasks import TASKS

STOPPED = 130
EngineName = Literal["local", "ray"]


@dataclass(frozen=True)
class Campaign:
    """A study, where its runs go, and who does them; `command` goes on with it."""

    study: Study
    out: Path
    jobs: int
    engine: EngineName
    command: str


def conduct(campaign: Campaign, console: Console) -> int:
    """Do what is missing of the study in its folder, print the table and write the report."""
    try:
        publish(train(campaign, console), console)
    except KeyboardInterrupt:
        return say_how_to_continue([campaign.out], campaign.command)
    return 0


def say_how_to_continue(folders: Iterable[Path], command: str) -> int:
    """What Ctrl-C leaves, and the exit code that goes with it."""
    done = sum(len(record.load(folder).records) for folder in folders if record.exists(folder))
    print(f"meansquare: stopped; {done} runs are kept, continue with: {command}", file=sys.stderr)
    return STOPPED


def train(campaign: Campaign, console: Console) -> Folder:
    """Do what is missing of the study, and return its folder with all runs."""
    _prepare_folder(campaign.study, campaign.out)
    with Journal(campaign.out) as journal:
        _say(journal.folder.notices, console)
        _train(campaign, journal, console)
    return record.load(campaign.out)


def publish(folder: Folder, console: Console) -> Path:
    """Print the findings of a folder and write its report; says what is missing in it."""
    summary, study = summarize(folder), study_of(folder.protocol)
    terminal.print_summary(console, summary)
    page = report.write(summary, study.command, folder.path)
    if left := len(remaining(study, folder)):
        console.print(
            f"Runs are missing, at least {left}; continue with: {study.command} --out "
            f"{shlex.quote(str(folder.path))}",
            highlight=False,
            soft_wrap=True,
        )
    console.print(f"Report: {page}", highlight=False, soft_wrap=True)
    return page


def publish_folder(out: Path, console: Console) -> Path:
    """Write the report of a run folder anew, from its records alone."""
    folder = record.load(out)
    _say(folder.notices, console)
    return publish(folder, console)


def remaining(study: Study, folder: Folder) -> list[Plan]:
    """The runs that are known to be missing; a border can ask for more once tuning is done."""
    tuning = folder.missing(study.tuning(folder.losses()))
    return tuning + folder.missing(study.final(_choices_so_far(study, folder, bool(tuning))))


def _say(notices: Sequence[str], console: Console) -> None:
    for notice in notices:
        console.print(f"{notice}.", style="yellow", highlight=False, soft_wrap=True)


def _prepare_folder(study: Study, out: Path) -> None:
    _require_folder(out)
    if not record.exists(out):
        record.create(out, study.protocol, _facts(study.tasks), _setups(study))
    folder = record.load(out)
    record.require_same(folder, study.protocol)
    own_setups = {name: setup for name, setup in _setups(study).items() if name not in SETUPS}
    own_tasks = _facts(tuple(name for name in study.tasks if name not in TASKS))
    record.require_same_files(folder, own_setups, own_tasks)


def _facts(tasks: Sequence[str]) -> dict[str, dict]:
    from meansquare.lab.tasks.named import load_task

    return {name: asdict(load_task(name).facts) for name in tasks}


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


def _train(campaign: Campaign, journal: Journal, console: Console) -> None:
    study, folder = campaign.study, journal.folder
    ahead = remaining(study, folder)
    if not ahead:
        return
    if folder.records:
        console.print(f"{len(folder.records)} runs are recorded, {len(ahead)} are left.")
    jobs = min(campaign.jobs, len(ahead))
    with _engine(campaign.engine, jobs) as crew, terminal.Display(console, ahead, jobs) as display:
        for plans in _rounds(study, journal):
            display.expect(plans)
            for event in crew.train(plans):
                if isinstance(event, Finished):
                    journal.append(event.record)
                display.show(event)


def _rounds(study: Study, journal: Journal) -> Iterator[list[Plan]]:
    """What can be done at once: the points, those past their borders, and the final runs."""
    while plans := journal.folder.missing(study.tuning(journal.folder.losses())):
        yield plans
    if plans := journal.folder.missing(study.final(choose(journal.folder.records))):
        yield plans


def _engine(name: EngineName, jobs: int) -> Engine:
    if name == "local":
        return Crew(jobs)
    from meansquare.lab.on_ray import RayCrew

    return RayCrew(jobs)


def _choices_so_far(study: Study, folder: Folder, tuning: bool) -> dict:
    chosen = choose(folder.records)
    if not tuning:
        return chosen
    # Before tuning is done the settings are unknown, but the number of final runs is not.
    places = {(task, optimizer) for task in study.tasks for optimizer in study.optimizers}
    return {place: study.trials(place[1])[0].settings for place in places} | chosen
