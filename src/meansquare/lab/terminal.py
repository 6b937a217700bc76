"""What the terminal shows: live progress while training, then one table per task."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timedelta

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from meansquare.lab import wording
from meansquare.lab.compare import Summary, TaskSummary
from meansquare.lab.schedule import Epoch, Event, Finished, Lost, Started
from meansquare.lab.setups import setup_of
from meansquare.lab.study import Plan

PLAIN_SECONDS = 10.0
VERDICT_STYLE = {"best": "bold green", "tie": "yellow", "behind": "dim", "diverged": "red"}


class Display:
    """Progress over all epochs of all runs: what trains, how far it is, when it ends.

    On a terminal it is drawn live; elsewhere a plain line is printed every ten seconds.
    """

    def __init__(self, console: Console, plans: Sequence[Plan], jobs: int) -> None:
        self._console = console
        self._known = {plan.key for plan in plans}
        self._runs, self._done = len(plans), 0
        self._epochs, self._trained = sum(plan.epochs for plan in plans), 0
        self._at = [0] * jobs  # epochs that each worker has told of in its run
        self._began = self._printed = time.monotonic()
        self._overall = Progress(
            TextColumn("{task.fields[state]}"), BarColumn(), TextColumn("{task.percentage:3.0f} %")
        )
        self._workers = Progress(TextColumn("  {task.description}"), BarColumn(bar_width=16))
        self._overall.add_task("", total=self._epochs, state="starting the training processes")
        for _ in range(jobs):
            self._workers.add_task("waiting", total=1)
        self._live = Live(
            Group(self._overall, self._workers), console=console, transient=True, auto_refresh=True
        )

    def expect(self, plans: Sequence[Plan]) -> None:
        """Count in runs that were not known of before: points past a border."""
        tuning = [plan for plan in plans if plan.phase == "tune" and plan.key not in self._known]
        self._runs += len(tuning)
        self._epochs += sum(plan.epochs for plan in tuning)
        self._overall.update(TaskID(0), total=self._epochs)

    def show(self, event: Event) -> None:
        """Take in one event of the crew."""
        if isinstance(event, Started):
            self._at[event.worker] = 0
            self._workers.reset(
                TaskID(event.worker), description=_describe(event.plan), total=event.plan.epochs
            )
        elif isinstance(event, Epoch):
            self._reach(event.worker, event.number)
            self._workers.update(TaskID(event.worker), completed=event.number)
        elif isinstance(event, Finished):
            self._done += 1
            # A diverged run stops early, and Ray tells only of ends: the rest counts as done.
            self._reach(event.worker, event.plan.epochs)
        elif isinstance(event, Lost):
            self._reach(event.worker, 0)
            self._console.print(
                f"A training process ended ({event.how}); its run is done again.", highlight=False
            )
        self._refresh()

    def _reach(self, worker: int, epoch: int) -> None:
        self._trained += epoch - self._at[worker]
        self._at[worker] = epoch

    def _refresh(self) -> None:
        state = f"{self._done}/{self._runs} runs, {self._ending()}"
        self._overall.update(TaskID(0), completed=self._trained, state=state)
        if not self._console.is_terminal and time.monotonic() - self._printed > PLAIN_SECONDS:
            self._printed = time.monotonic()
            self._console.print(state, highlight=False)

    def _ending(self) -> str:
        passed = time.monotonic() - self._began
        if passed < 3 or not self._trained:
            return "estimating the time left"
        left = passed * (self._epochs - self._trained) / self._trained
        ends = datetime.now() + timedelta(seconds=left)
        return f"about {left:.0f} s left, ends {ends:%H:%M:%S}"

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()


def print_summary(console: Console, summary: Summary) -> None:
    """A table and a finding per task."""
    for task in summary.tasks:
        console.print(_table(task))
        console.print(wording.finding(task), highlight=False)
        for warning in filter(None, map(wording.edge_warning, task.arms)):
            console.print(f"Note: {warning}", style="yellow", highlight=False)
        console.print()


def _table(task: TaskSummary) -> Table:
    facts = task.facts
    table = Table(title=facts["title"], title_justify="left", title_style="bold")
    for column in (
        "optimizer",
        "rate",
        f"{facts['metric']}{wording.measured_in(facts, ', ')}",
        "diverged",
        "in optimizer",
    ):
        table.add_column(column)
    table.add_column("verdict")
    for arm in task.ranked:
        table.add_row(
            arm.label,
            wording.rate(arm.lr),
            wording.score(arm),
            wording.divergence(arm),
            wording.step_time(arm),
            f"[{VERDICT_STYLE.get(arm.verdict, 'default')}]{arm.verdict}[/]",
        )
    return table


def _describe(plan: Plan) -> str:
    label = setup_of(plan.optimizer).label
    aim = "tuning" if plan.phase == "tune" else f"seed {plan.seed}"
    return f"{plan.task:14} {label:17} lr {plan.settings['lr']:<9.3g} {aim:8}"
