"""The command line `meansquare`: every refusal is one line and exit code 2."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from meansquare.lab.arguments import (
    at_least_one,
    claim_names,
    optimizer_names,
    require_extras,
    seconds,
    task_names,
)
from meansquare.lab.environment import usable_cores
from meansquare.lab.errors import LabError
from meansquare.lab.options import (
    DEMO,
    Budget,
    EngineOption,
    Epochs,
    Jobs,
    OptimizerNames,
    Out,
    Searched,
    Seeds,
    TaskNames,
    TimeBudget,
)
from meansquare.lab.setups import SETUPS, USUAL, require_importable, setup_of
from meansquare.lab.study import EVERY_SETTING_FROM, Study
from meansquare.lab.watch_file import watch_files

REFUSED, STOPPED = 2, 130
DEFAULT_OUT, DEFAULT_CLAIMS = Path("runs/compare"), Path("runs/claims")
EVERY_OPTIMIZER = ",".join(USUAL)
ENGINES = ("local", "ray")
SEARCHES = ("lr", "all")

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="RMSProp and the optimizers it is weighed against, on real tasks.",
)
console = Console()
# typer ships click under its own name; its public BadParameter leads to the class of all refusals.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


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
    tasks: TaskNames = None,
    out: Out = DEFAULT_OUT,
    optimizers: OptimizerNames = EVERY_OPTIMIZER,
    budget: Budget = 9,
    search: Searched = None,
    seeds: Seeds = 5,
    epochs: Epochs = None,
    jobs: Jobs = None,
    engine: EngineOption = ENGINES[0],
    time_budget: TimeBudget = None,
) -> int:
    """Train tasks with optimizers and write a report; a stopped run continues."""
    workers = usable_cores() if jobs is None else at_least_one("--jobs", jobs, "processes")
    names, time = task_names(tasks or DEMO), time_budget and seconds("--time-budget", time_budget)
    if search is None:
        search = "all" if budget >= EVERY_SETTING_FROM else "lr"
    _require_one_of("--search", search, SEARCHES)
    _require_one_of("--engine", engine, ENGINES)
    require_extras("compare")
    study = Study(
        tasks=names,
        optimizers=optimizer_names(optimizers),
        budget=at_least_one("--budget", budget, "settings to try"),
        seeds=at_least_one("--seeds", seeds, "final runs per optimizer"),
        epochs=_epochs(names, epochs),
        search=search,  # type: ignore[arg-type]
    )
    for name in study.optimizers:
        if name not in SETUPS:
            require_importable(setup_of(name))
    from meansquare.lab.campaign import Campaign, conduct
    from meansquare.lab.time_budget import fitted

    if time:
        study = fitted(study, out, time, workers, console)
    command = f"{study.command} --out {shlex.quote(str(out))}"
    return conduct(Campaign(study, out, workers, engine, command), console)  # type: ignore[arg-type]


@app.command()
def report(
    folder: Annotated[
        Path, typer.Argument(help="Run folder of a compare, or a file of meansquare.watch.")
    ],
    tensorboard: Annotated[
        Path | None, typer.Option("--tensorboard", help="Write all curves for TensorBoard there.")
    ] = None,
) -> int:
    """Rebuild the figures and the page of a run folder, or draw what was watched."""
    require_extras("report")
    if watched := watch_files(folder):
        from meansquare.lab import atlas

        if tensorboard:
            raise LabError(f"--tensorboard must have a run folder, got {folder}; leave it out.")
        for page in atlas.write_all(watched):
            console.print(f"Atlas: {page}", highlight=False, soft_wrap=True)
        return 0
    from meansquare.lab.campaign import publish_folder

    publish_folder(folder, console)
    if tensorboard:
        from meansquare.lab.tensorboard import export

        console.print(export(folder, tensorboard), highlight=False, soft_wrap=True)
    return 0


@app.command()
def claims(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CLAIMS]...", help="Claims and exact cases; exact: all of these."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of records and verdicts.")] = (
        DEFAULT_CLAIMS
    ),
    budget: Budget = EVERY_SETTING_FROM,
    seeds: Seeds = 10,
    jobs: Jobs = None,
    engine: EngineOption = ENGINES[0],
    judge: Annotated[
        bool, typer.Option("--judge", help="Train nothing, decide by the records in --out.")
    ] = False,
) -> int:
    """Check what articles claim: do the runs that each claim names, and decide it from them.

    The exit code is 1 where an exact case does not come out.
    """
    cases, chosen = claim_names(names or [])
    workers = usable_cores() if jobs is None else at_least_one("--jobs", jobs, "processes")
    _require_one_of("--engine", engine, ENGINES)
    require_extras("claims")
    from meansquare.lab import court

    if judge:
        return court.show(court.judged(cases, chosen, out), out, console)
    budget = at_least_one("--budget", budget, "settings to try")
    seeds = at_least_one("--seeds", seeds, "final runs per optimizer")
    command = shlex.join(
        ["meansquare", "claims", *(names or []), *("--out", str(out)),
         *("--budget", str(budget)), *("--seeds", str(seeds))]
    )  # fmt: skip
    means = court.Means(out, workers, engine, command)  # type: ignore[arg-type]
    campaigns = court.campaigns(chosen, budget, seeds, not names, means)
    return court.hold(cases, chosen, campaigns, means, console)


@app.command("new-task")
def new_task(file: Annotated[Path, typer.Argument(help="The Python file to write.")]) -> int:
    """Write a task of your own to begin with: a model, data and a loss."""
    from meansquare.lab.files import create_new_file

    if file.suffix != ".py":
        raise LabError(f"{file} must end with .py; a task is a Python file.")
    source = Path(__file__).with_name("tasks") / "starting_point.py"
    create_new_file(file, source.read_bytes())
    console.print(
        f"{file} is written; change it, then: meansquare compare {file}",
        highlight=False,
        soft_wrap=True,
    )
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
    from meansquare.lab.checkup import installation

    for part in installation():
        console.print(part, highlight=False)
    return 0


@app.command()
def lr(
    tasks: TaskNames = None,
    optimizer: Annotated[
        str, typer.Option("--optimizer", help="As compare --optimizers names one.")
    ] = "rmsprop",
    seeds: Annotated[int, typer.Option("--seeds", help="Times that it is tried.")] = 3,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Draw the range tests into this .svg or .png.")
    ] = None,
) -> int:
    """Suggest a learning rate for tasks: by a range test, and by what is stable."""
    names = task_names(tasks or DEMO[:1])
    (chosen,) = optimizer_names(optimizer.split(",")[0])
    if chosen != optimizer or (picture and len(names) > 1):
        raise LabError("one optimizer at a time, and one task where there is a picture.")
    require_extras("lr")
    from meansquare.lab.rates import suggest

    for name in names:
        for part in suggest(name, chosen, at_least_one("--seeds", seeds, "seeds"), picture):
            console.print(part, highlight=False)
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


def _epochs(names: Sequence[str], epochs: int | None) -> dict[str, int]:
    from meansquare.lab.tasks.named import epochs_of

    if epochs is not None:
        at_least_one("--epochs", epochs, "epochs")
    return {name: epochs_of(name, epochs) for name in names}


def _require_one_of(option: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise LabError(f"{option} must be {' or '.join(choices)}, got {value!r}.")


def _refuse(arguments: Sequence[str], message: str) -> int:
    commands = {
        command.callback.__name__.replace("_", "-")
        for command in app.registered_commands
        if command.callback
    }
    who = " ".join(["meansquare", *(name for name in arguments[:1] if name in commands)])
    print(f"{who}: {' '.join(message.split())}", file=sys.stderr)
    return REFUSED


def _usage(error: Exception) -> str:
    message = getattr(error, "format_message", error.__str__)()
    return f"{message.rstrip('.')}; --help lists what there is."


if __name__ == "__main__":
    sys.exit(main())
