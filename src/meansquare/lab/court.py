"""Claims brought before their records: the runs that they name are done, then each is decided.

A folder of claims holds `exact.json`, a run folder for each court, and the verdicts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from meansquare.dialects import DIALECTS
from meansquare.lab import record
from meansquare.lab.campaign import Campaign, EngineName, publish, say_how_to_continue, train
from meansquare.lab.claims import Claim, Court, Verdict, decide, evidence
from meansquare.lab.compare import Summary, summarize
from meansquare.lab.environment import describe_environment
from meansquare.lab.errors import LabError
from meansquare.lab.exact import CASES, Case, judge, run_case
from meansquare.lab.files import make_folder, replace_file
from meansquare.lab.setups import SETUPS, USUAL
from meansquare.lab.study import EVERY_SETTING_FROM, Study
from meansquare.lab.tasks import TASKS

EXACT = "exact.json"
STYLE = {"REPRODUCED": "green", "NOT REPRODUCED": "red", "UNDECIDED": "yellow"}


# Who is trained beside those that a court's claims name, so that its report shows all of them.
BESIDE: Mapping[Court, tuple[str, ...]] = {
    "usual": USUAL,
    "styles": (),
    "river": ("sgd", "river-sgd", "adagrad", "adam", "river-adam"),
}


@dataclass(frozen=True)
class Decision:
    """What became of a claim or an exact case, with the lines that it was decided by."""

    name: str
    sentence: str
    source: str
    says: str
    verdict: Verdict
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class Means:
    """Where the runs of claims go, who does them, and the command that goes on with them."""

    out: Path
    jobs: int
    engine: EngineName
    command: str


def campaigns(
    claims: Sequence[Claim], budget: int, seeds: int, beside: bool, means: Means
) -> dict[Court, Campaign]:
    """What each court has to train: the tasks and optimizers that its claims name.

    With `beside`, the optimizers that are usual there, too.
    """
    found: dict[Court, Campaign] = {}
    for court, usual in BESIDE.items():
        if here := [claim for claim in claims if claim.court == court]:
            study = _study(court, here, budget, seeds, usual if beside else ())
            out = means.out / court
            found[court] = Campaign(study, out, means.jobs, means.engine, means.command)
    return found


def run_exact(cases: Iterable[Case], out: Path, console: Console) -> None:
    """Compute the numbers of these cases and keep them in the folder, with what made them."""
    make_folder(out)
    kept = dict(exact_values(out))
    for case in cases:
        console.print(f"exact case {case.name}", highlight=False)
        kept[case.name] = run_case(case.name)
        content = {"made_by": describe_environment(), "values": kept}
        replace_file(out / EXACT, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def exact_values(out: Path) -> Mapping[str, Mapping[str, float]]:
    """The numbers of the cases in a folder, none where it has none."""
    path = out / EXACT
    if not path.exists():
        return {}
    try:
        values = json.loads(path.read_bytes())["values"]
        return {name: dict(numbers) for name, numbers in values.items()}
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise LabError(f"{path} is damaged ({type(error).__name__}); remove it.") from error


def hold(
    cases: Sequence[Case],
    claims: Sequence[Claim],
    campaigns: Mapping[Court, Campaign],
    means: Means,
    console: Console,
) -> int:
    """Do what is missing, decide, print and write the verdicts; returns the exit code."""
    known = exact_values(means.out)
    try:
        run_exact([case for case in cases if case.name not in known], means.out, console)
        for campaign in campaigns.values():
            publish(train(campaign, console), console)
    except KeyboardInterrupt:
        return say_how_to_continue([one.out for one in campaigns.values()], means.command)
    return show(judged(cases, claims, means.out), means.out, console)


def judged(cases: Iterable[Case], claims: Iterable[Claim], out: Path) -> list[Decision]:
    """Every case and claim, decided by what the folder holds and by nothing else; no torch."""
    values = exact_values(out)
    decided = [_of_case(case, values.get(case.name, {})) for case in cases]
    courts = {claim.court for claim in claims}
    summaries = {
        court: summarize(record.load(out / court))
        for court in courts
        if record.readable(out / court)
    }
    return decided + [_of_claim(claim, summaries.get(claim.court)) for claim in claims]


def show(decided: Sequence[Decision], out: Path, console: Console) -> int:
    """Print the verdicts and write them beside the records; 1 where an exact case fails."""
    table = Table("claim", "verdict", "what it says")
    for one in decided:
        table.add_row(one.name, f"[{STYLE[one.verdict]}]{one.verdict}[/]", one.sentence)
    console.print(table)
    for name, text in pages(decided).items():
        replace_file(out / name, text.encode())
    console.print(f"Verdicts: {out / 'verdicts.md'}", highlight=False, soft_wrap=True)
    return int(any(one.name in CASES and one.verdict == "NOT REPRODUCED" for one in decided))


def pages(decided: Sequence[Decision]) -> dict[str, str]:
    """The files that tell the verdicts, to a program and to a reader."""
    content: list[dict[str, Any]] = [asdict(one) for one in decided]
    return {"verdicts.json": json.dumps(content, indent=1) + "\n", "verdicts.md": _page(decided)}


def _study(
    court: Court, claims: Sequence[Claim], budget: int, seeds: int, beside: Sequence[str]
) -> Study:
    named = {name for claim in claims for name in claim.optimizers} | {*beside}
    tasks = tuple(name for name in TASKS if any(name in claim.tasks for claim in claims))
    # A dialect, and river's optimizers, have the learning rate alone to search.
    every = court == "usual" and budget >= EVERY_SETTING_FROM
    return Study(
        tasks=tasks,
        optimizers=tuple(name for name in (*SETUPS, *DIALECTS) if name in named),
        budget=budget,
        seeds=seeds,
        epochs={name: TASKS[name].epochs for name in tasks},
        search="all" if every else "lr",
    )


def _of_case(case: Case, values: Mapping[str, float]) -> Decision:
    told = tuple(f"{name} = {value!r}" for name, value in values.items())
    return Decision(case.name, case.claim, case.source, case.says, judge(case, values), told)


def _of_claim(claim: Claim, summary: Summary | None) -> Decision:
    verdict, told = ("UNDECIDED", ["no records"]) if summary is None else (
        decide(claim, summary), evidence(claim, summary)
    )  # fmt: skip
    return Decision(claim.name, claim.sentence, claim.source, claim.says, verdict, tuple(told))


def _rows(decided: Sequence[Decision]) -> list[str]:
    rows = [f"| [{d.name}](#{d.name}) | {d.sentence} | {d.verdict} |" for d in decided]
    return [
        "Decided from the records beside this page by `meansquare claims`. Of a claim about",
        "learning each line is a task: the mean result of every optimizer with its 95 % interval,",
        "and the median steps to the target.",
        "",
        "| claim | what it says | verdict |",
        "|---|---|---|",
        *rows,
    ]


def _page(decided: Sequence[Decision]) -> str:
    lines = ["# Verdicts", "", *_rows(decided), ""]
    for one in decided:
        lines += [f"## {one.name}", "", f"**{one.verdict}**: {one.sentence} ({one.source})", ""]
        lines += [f"Rule: {one.says}.", "", *(f"- {line}" for line in one.evidence), ""]
    return "\n".join(lines)
