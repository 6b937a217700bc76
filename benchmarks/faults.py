"""What faults do to a training, plain and guarded, over ten seeds; and false alarms on clean runs.

python benchmarks/faults.py              the tables, in some minutes on two cores
python benchmarks/faults.py --seeds 2    quicker
python benchmarks/faults.py --page docs/guard.md    writes them into the page

The lab's digits task (a small CNN), RMSProp at its default learning rate, a fault at step 300 of
680. Clean runs: every task of the lab with the settings that its comparison chose.
"""

import argparse
import math
import re
import statistics
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from torch import nn

from meansquare import Guard, RMSProp
from meansquare.lab import record
from meansquare.lab.tasks import TASKS
from meansquare.lab.tasks.named import load_task
from meansquare.lab.tasks.supervised import Split, Supervised

LR, AT, LASTS = 1e-3, 300, 20
RESULTS = Path(__file__).parents[1] / "docs" / "results" / "usual"
ARMS: dict[str, Callable[[nn.Module], Guard | None]] = {
    "plain": lambda model: None,
    "skip": lambda model: Guard(),
    "clip": lambda model: Guard(clip=4.0, spike="warn"),
    "lower": lambda model: Guard(spike="lower"),
    "rollback": lambda model: Guard(spike="rollback", others=[model]),
}
FAULTS = {
    "none": "no fault",
    "nan": "one batch with a NaN",
    "garbage": "one batch, labels shuffled and inputs x1000",
    "rate": f"learning rate x30 for {LASTS} steps",
    "layer": "one gradient of one layer x10,000",
}


@dataclass(frozen=True)
class End:
    """How a training ended: loss on validation, the steps that it lost, what the guard did."""

    fault: str
    arm: str
    loss: float
    events: int


def run(fault: str, arm: str, seed: int) -> End:
    """One training of digits with a fault."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    task = load_task("digits")
    assert isinstance(task, Supervised)
    training = task.start(seed)
    optimizer = RMSProp(training.parameters(), lr=LR, guard=ARMS[arm](training.model))
    draws = torch.Generator().manual_seed(seed)
    for i, batch in enumerate(batches(task, draws)):
        optimizer.param_groups[0]["lr"] = LR * (30 if is_on(fault, "rate", i, LASTS) else 1)
        if is_on(fault, "nan", i):
            batch.inputs[0, 0, 0, 0] = math.nan
        if is_on(fault, "garbage", i):
            shuffle = torch.Generator().manual_seed(seed)  # the order of the data stays
            order = torch.randperm(len(batch.targets), generator=shuffle)
            batch = Split(1000 * batch.inputs, batch.targets[order])
        optimizer.zero_grad()
        training.model.train()
        loss = task.loss(training.model(batch.inputs), batch.targets)
        loss.backward()
        if is_on(fault, "layer", i):
            middle = [*training.model.parameters()][2]
            assert middle.grad is not None
            middle.grad.mul_(1e4)
        if optimizer.guard:
            optimizer.guard.saw(loss)
        optimizer.step()
    events = len(optimizer.guard.events) if optimizer.guard else 0
    return End(fault, arm, training.validate().loss, events)


def batches(task: Supervised, draws: torch.Generator) -> Iterator[Split]:
    for _ in range(TASKS["digits"].epochs):
        yield from task.splits["train"].batches(task.facts.batch_size, draws)


def is_on(fault: str, name: str, step: int, lasts: int = 1) -> bool:
    return fault == name and AT <= step < AT + lasts


def table(ends: list[End], seeds: int) -> Iterator[str]:
    """A row for each fault: the median loss of each arm, and how many seeds it broke."""
    yield f"| fault | {' | '.join(ARMS)} |"
    yield f"| --- |{' --- |' * len(ARMS)}"
    clean = statistics.median(end.loss for end in ends if (end.fault, end.arm) == ("none", "plain"))
    for fault, words in FAULTS.items():
        cells = []
        for arm in ARMS:
            own = [end for end in ends if (end.fault, end.arm) == (fault, arm)]
            losses = [end.loss if math.isfinite(end.loss) else math.inf for end in own]
            broken = sum(loss > 2 * clean for loss in losses)
            middle = statistics.median(losses)
            shown = "NaN" if middle == math.inf else f"{middle:.3f}"
            cells.append(f"{shown}, {seeds - broken} of {seeds}")
        yield f"| {words} | {' | '.join(cells)} |"


def clean_run(name: str) -> tuple[str, int, int, int]:
    """A clean run of a task with the settings chosen for it: its steps, alarms and the first."""
    torch.set_num_threads(1)
    chosen = {r.task: r.settings for r in record.load(RESULTS).records if is_chosen(r)}
    problem = load_task(name).start(11)
    optimizer = RMSProp(problem.parameters(), **chosen[name], guard=(guard := Guard()))  # type: ignore[arg-type]
    steps = 0
    for _ in range(TASKS[name].epochs):
        for loss in problem.losses():
            optimizer.zero_grad()
            loss.backward()
            guard.saw(loss)
            optimizer.step()
            steps += 1
    first = next((event.batch for event in guard.events), -1)
    return name, steps, len(guard.events), first


def is_chosen(run: record.Record) -> bool:
    return run.phase == "final" and run.optimizer == "rmsprop"


def alarms(rows: list[tuple[str, int, int, int]]) -> Iterator[str]:
    quiet = [row for row in rows if not row[2]]
    steps = sum(row[1] for row in quiet)
    yield f"No alarm in {len(quiet)} of {len(rows)} clean runs ({steps:,} steps)."
    for name, steps, count, first in rows:
        if count:
            yield f"{name}: {count} alarms in {steps:,} steps, from step {first} on."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--page", type=Path)
    asked = parser.parse_args()
    seeds = range(1, asked.seeds + 1)
    with ProcessPoolExecutor(2) as pool:
        quiet = pool.map(clean_run, TASKS)
        rows = [*product(FAULTS, ARMS, seeds)]
        ends = [*pool.map(run, *zip(*rows, strict=True))]
        lines = [*table(ends, asked.seeds), "", *alarms([*quiet])]
    text = "\n".join(lines)
    print(text)
    if asked.page:
        page = asked.page.read_text()
        marks = r"(<!-- faults -->\n).*?(<!-- end -->)"
        asked.page.write_text(
            re.sub(marks, lambda m: f"{m[1]}{text}\n{m[2]}", page, flags=re.DOTALL)
        )


if __name__ == "__main__":
    main()
