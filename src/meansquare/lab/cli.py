"""The command line `meansquare`: every refusal is one line and exit code 2."""

from __future__ import annotations

import difflib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from meansquare.dialects import DIALECTS
from meansquare.lab.environment import package_version, platform_name, usable_cores
from meansquare.lab.errors import LabError
from meansquare.lab.setups import SETUPS, is_setup, require_importable, setup_of
from meansquare.lab.study import Study
from meansquare.lab.tasks import TASKS

REFUSED, STOPPED = 2, 130
DEFAULT_OUT = Path("runs/compare")
EVERY_TASK, EVERY_OPTIMIZER = ",".join(TASKS), ",".join(SETUPS)
EXTRAS = ("sklearn", "statsmodels", "matplotlib", "jinja2", "scipy")

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="RMSProp and the optimizers it is weighed against, on real tasks.",
)
console = Console()
# typer ships click under its own name; its public BadParameter leads to the class of all refusals.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]

Out = Annotated[Path, typer.Option("--out", help="Run folder: records, figures and report.")]
TaskNames = Annotated[str, typer.Option("--tasks", help=f"Of {', '.join(TASKS)}; with commas.")]
OptimizerNames = Annotated[
    str,
    typer.Option(
        "--optimizers",
        help=f"Of {', '.join(SETUPS)}, a dialect, or your own as FILE.py:NAME; with commas.",
    ),
]
Budget = Annotated[int, typer.Option("--budget", help="Learning rates tried per optimizer.")]
Seeds = Annotated[int, typer.Option("--seeds", help="Paired seeds of the final runs.")]
Epochs = Annotated[int | None, typer.Option("--epochs", help="Instead of each task's own number.")]
Jobs = Annotated[int | None, typer.Option("--jobs", help="Processes; default: usable cores.")]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return app(arguments, standalone_mode=False) or 0
    except LabError as error:
        return _refuse(arguments, str(error))
    except UsageError as error:
        return _refuse(arguments, _usage(error))
    except (KeyboardInterrupt, typer.Abort):
        return STOPPED
    except OSError as error:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (Python flushes it once more at exit)
        return _refuse(arguments, f"cannot print here: {error.strerror}; print elsewhere.")


@app.command()
def compare(
    out: Out = DEFAULT_OUT,
    tasks: TaskNames = EVERY_TASK,
    optimizers: OptimizerNames = EVERY_OPTIMIZER,
    budget: Budget = 9,
    seeds: Seeds = 5,
    epochs: Epochs = None,
    jobs: Jobs = None,
) -> int:
    """Train every task with every optimizer and write a report; a stopped run continues."""
    task_names = _names("--tasks", "task", tasks, TASKS)
    study = Study(
        tasks=task_names,
        optimizers=_names(
            "--optimizers", "optimizer", optimizers, {**SETUPS, **DIALECTS}, is_setup
        ),
        budget=_at_least_one("--budget", budget, "learning rates to try"),
        seeds=_at_least_one("--seeds", seeds, "final runs per optimizer"),
        epochs={
            name: TASKS[name] if epochs is None else _at_least_one("--epochs", epochs, "epochs")
            for name in task_names
        },
    )
    workers = usable_cores() if jobs is None else _at_least_one("--jobs", jobs, "processes")
    _require_extras("compare")
    for name in study.optimizers:
        if name not in SETUPS:
            require_importable(setup_of(name))
    from meansquare.lab.campaign import conduct

    return conduct(study, out, workers, console)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Run folder of a finished compare.")],
) -> int:
    """Rebuild the figures and the page of a finished run folder."""
    _require_extras("report")
    from meansquare.lab.campaign import publish_finished

    publish_finished(folder, console)
    return 0


@app.command()
def doctor(
    checkpoint: Annotated[
        Path | None, typer.Argument(help="Tell what this file of torch.save holds instead.")
    ] = None,
) -> int:
    """Print versions, cores and live backends, or what a checkpoint holds and what will hurt."""
    if checkpoint is not None:
        from meansquare.lab.checkup import checkup

        for part in checkup(checkpoint):
            console.print(part)
        return 0
    import torch

    import meansquare

    for name in ("meansquare", "torch", "numpy"):
        console.print(f"{name:12}{package_version(name) or 'not installed'}", highlight=False)
    console.print(f"{'python':12}{sys.version.split()[0]}, {platform_name()}", highlight=False)
    console.print(
        f"{'cores':12}{usable_cores()} usable, {torch.get_num_threads()} torch threads",
        highlight=False,
    )
    table = Table("backend", "live", "why")
    for backend in meansquare.backends():
        table.add_row(backend.name, "yes" if backend.live else "no", backend.detail)
    console.print(table)
    return 0


@app.command()
def dialects(
    name: Annotated[str | None, typer.Argument(help="Tell everything of this one.")] = None,
) -> int:
    """Print what "RMSProp" means elsewhere: each dialect's step in one line, and its defaults."""
    from meansquare.lab.catalogue import dialect_card, dialect_table

    console.print(dialect_table() if name is None else dialect_card(name))
    return 0


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(help="Tell everything of this one.")] = None,
) -> int:
    """Print the RMSProp settings of well-known trainings, and where they were read."""
    from meansquare.lab.catalogue import recipe_card, recipe_table

    console.print(recipe_table() if name is None else recipe_card(name))
    return 0


def _names(
    option: str,
    noun: str,
    text: str,
    known: Iterable[str],
    allowed: Callable[[str], bool] = lambda name: False,
) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    known = list(known)
    for name in names:
        if name not in known and not allowed(name):
            raise LabError(f"{option}: no {noun} is called {name!r}; {_suggest(name, known)}")
        if names.count(name) > 1:
            raise LabError(f"{option}: {name!r} is named twice; name each {noun} once.")
    return names


def _suggest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    choices = f"choose from {', '.join(known)}."
    return f"did you mean {near[0]!r}? Otherwise {choices}" if near else choices


def _at_least_one(option: str, value: int, what: str) -> int:
    if value < 1:
        raise LabError(f"{option} must be at least 1, got {value}; it is the number of {what}.")
    return value


def _require_extras(command: str) -> None:
    missing = [name for name in EXTRAS if importlib.util.find_spec(name) is None]
    if missing:
        raise LabError(f"{command} needs {', '.join(missing)}; run: pip install 'meansquare[lab]'")


def _refuse(arguments: Sequence[str], message: str) -> int:
    commands = {
        command.callback.__name__ for command in app.registered_commands if command.callback
    }
    who = " ".join(["meansquare", *(name for name in arguments[:1] if name in commands)])
    print(f"{who}: {' '.join(message.split())}", file=sys.stderr)
    return REFUSED


def _usage(error: Exception) -> str:
    message = getattr(error, "format_message", error.__str__)()
    return f"{message.rstrip('.')}; --help lists what there is."


if __name__ == "__main__":
    sys.exit(main())
