"""Learning rates suggested for tasks, before anything is compared."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.table import Table
from torch import Tensor
from torch.optim import Optimizer

from meansquare.lab.errors import LabError
from meansquare.lab.files import replace_file
from meansquare.lab.looks import INK, SOFT, STYLE
from meansquare.lab.setups import Setup, setup_of
from meansquare.lab.tasks import Facts, Problem, Task
from meansquare.lab.tasks.named import load_task
from meansquare.lab.wording import rate
from meansquare.step_size.range_test import Begin
from meansquare.step_size.suggest import Method, Suggestion, suggestion

METHODS: dict[Method, str] = {"range": "range test", "stability": "stability meter"}
START = 1e-3  # the learning rate that optimizers are made with; none of it is used


def beginning(task: Task, setup: Setup) -> Begin:
    """Makes a run of a task anew from each seed, which goes on from period to period."""

    def begin(seed: int) -> tuple[Optimizer, Iterator[Tensor]]:
        problem = task.start(seed)
        return setup.build(problem.parameters(), {"lr": START}), _losses(problem)

    return begin


def _losses(problem: Problem) -> Iterator[Tensor]:
    while True:
        count = 0
        for count, loss in enumerate(problem.losses(), start=1):  # noqa: B007
            yield loss
        if not count:
            return


def suggest(name: str, optimizer: str, seeds: int, picture: Path | None) -> Iterator[Table | str]:
    """A table of what each method suggests for a task, and what to make of it."""
    if picture is not None and picture.suffix not in (".svg", ".png"):
        raise LabError(f"--picture must end with .svg or .png, got {picture}.")
    task, setup = load_task(name), setup_of(optimizer)
    torch.set_num_threads(1)
    begin = beginning(task, setup)
    found: dict[Method, Suggestion] = {
        method: suggestion(begin, method, range(1, seeds + 1)) for method in METHODS
    }
    table = Table(
        f"{task.facts.title}, {setup.label}", "learning rate", "seeds", "steps", "seconds"
    )
    for method, own in found.items():
        table.add_row(METHODS[method], *cells(own))
    yield table
    yield advice(task.facts, found["range"], found["stability"])
    if picture is not None:
        replace_file(picture, drawn(task.facts, found["range"], picture.suffix[1:]))
        yield f"The range tests are drawn in {picture}."


def cells(own: Suggestion) -> tuple[str, ...]:
    span = "none" if own.low is None else f"{rate(own.low)} to {rate(own.high)}"
    found = "none" if own.lr is None else rate(own.lr)
    return found, span, str(own.steps), f"{own.seconds:.1f}"


def advice(facts: Facts, ranged: Suggestion, metered: Suggestion) -> str:
    """One sentence on what to use, with its doubts."""
    stable = (
        "" if metered.stable is None else f"; {rate(metered.stable)} is the most that is stable"
    )
    if facts.kind == "agent":
        return (
            "An agent's loss does not tell how well it plays: take these for an order of magnitude"
            f"{stable}. meansquare compare tunes it by what it earns."
        )
    if ranged.lr is None:
        return f"No learning rate lowered the loss by more than its noise{stable}."
    silent = sum(curve.rate is None for curve in ranged.curves)
    doubt = f"; {silent} of {len(ranged.curves)} seeds saw no fall" if silent else ""
    return (
        f"Begin at {rate(ranged.lr)}{stable}{doubt}. It is from a short training: a long one ends "
        "lower with less, or with a schedule."
    )


def drawn(facts: Facts, found: Suggestion, form: str) -> bytes:
    """The range tests of all seeds, their running means, and the interval of what they suggest."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
        for curve in found.curves:
            axes.plot(curve.rates, curve.losses, color=SOFT, linewidth=0.6, alpha=0.6)
            axes.plot(curve.rates, curve.level, color=INK, linewidth=1.4)
        if found.lr is not None and found.low is not None and found.high is not None:
            axes.axvspan(found.low, found.high, alpha=0.2, color="#0072b2", linewidth=0)
            axes.axvline(found.lr, color="#0072b2", linewidth=1.6)
        level = [value for curve in found.curves for value in curve.level]
        if level:
            span = max(level) - min(level)
            axes.set_ylim(min(level) - 0.15 * span, max(level) + 0.15 * span)
        axes.set(xscale="log", xlabel="learning rate", ylabel="training loss", title=facts.title)
        made = io.BytesIO()
        figure.savefig(made, format=form, metadata={"Date": None} if form == "svg" else None)
        plt.close(figure)
    return made.getvalue()
