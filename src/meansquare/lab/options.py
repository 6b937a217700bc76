"""The options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meansquare.lab.arguments import ALL
from meansquare.lab.setups import SETUPS
from meansquare.lab.study import EVERY_SETTING_FROM
from meansquare.lab.tasks import KINDS, TASKS

DEMO = ("digits", "co2")

Out = Annotated[Path, typer.Option("--out", help="Run folder: records, figures and report.")]
TaskNames = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[TASKS]...",
        help=f"Of {', '.join(TASKS)}; a kind ({', '.join(KINDS[:-1])}); {ALL}; your own FILE.py "
        f"(see new-task); images:FOLDER; text:PATH. [default: {' '.join(DEMO)}]",
    ),
]
OptimizerNames = Annotated[
    str,
    typer.Option(
        "--optimizers",
        help=f"Of {', '.join(SETUPS)}, a dialect, or your own as FILE.py:NAME; with commas.",
    ),
]
Budget = Annotated[int, typer.Option("--budget", help="Settings tried per optimizer and task.")]
Searched = Annotated[
    str | None,
    typer.Option(
        "--search",
        help="lr: learning rates alone; all: eps, decay and momentum, too. "
        f"[default: all from a budget of {EVERY_SETTING_FROM} on]",
    ),
]
Seeds = Annotated[int, typer.Option("--seeds", help="Paired seeds of the final runs.")]
Epochs = Annotated[int | None, typer.Option("--epochs", help="Instead of each task's own number.")]
Jobs = Annotated[int | None, typer.Option("--jobs", help="Processes; default: usable cores.")]
EngineOption = Annotated[str, typer.Option("--engine", help="local, or ray: on a Ray cluster.")]
TimeBudget = Annotated[
    str | None,
    typer.Option("--time-budget", help="Fit seeds, budget and epochs to a time: 90s, 15m, 1.5h."),
]
