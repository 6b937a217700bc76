"""The report: one self-contained page, its pictures and tables as files, the summary as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from meansquare.lab import wording
from meansquare.lab.compare import Summary
from meansquare.lab.figures import draw, draw_profile
from meansquare.lab.files import make_folder, replace_file
from meansquare.lab.looks import MARKS, OURS, look_of
from meansquare.lab.overall import LEVEL, answer, middle_rate
from meansquare.lab.page_data import MOST_POINTS, embedded
from meansquare.lab.statistics import CONFIDENCE, RESAMPLES
from meansquare.lab.tables import tables

TEMPLATE, STYLE = "report.html.j2", "report.css"
# In this order they make one script, whose parts see each other and nothing else does.
SCRIPTS = (
    "report_state.js",
    "report_plot.js",
    "report_card.js",
    "report_charts.js",
    "report_surface.js",
    "report_answer.js",
    "report.js",
)


def write(summary: Summary, command: str, folder: Path) -> Path:
    """Write report.html, summary.json, figures/ and tables/; returns the page's path."""
    pictures = {task.facts["name"]: draw(task) for task in summary.tasks}
    make_folder(folder / "figures")
    make_folder(folder / "tables")
    for picture in (draw_profile(summary), *(p for drawn in pictures.values() for p in drawn)):
        replace_file(folder / "figures" / f"{picture.name}.svg", picture.svg)
        replace_file(folder / "figures" / f"{picture.name}.png", picture.png)
    for name, content in tables(summary).items():
        replace_file(folder / "tables" / name, content)
    replace_file(folder / "summary.json", (json.dumps(asdict(summary), indent=1) + "\n").encode())
    page = folder / "report.html"
    replace_file(page, render(summary, command, pictures).encode())
    return page


def render(summary: Summary, command: str, pictures: Mapping[str, Any]) -> str:
    """The page."""
    loader = PackageLoader("meansquare.lab", ".")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    environment.filters["look"] = look_of

    def source(name: str) -> str:
        return loader.get_source(environment, name)[0]

    return environment.get_template(TEMPLATE).render(
        summary=summary,
        protocol=summary.protocol,
        answer=answer(summary.tasks),
        kinds=_kinds(summary),
        missing=wording.missing(summary),
        data=embedded(summary),
        pictures=pictures,
        command=command,
        style=source(STYLE),
        script="".join(source(name) for name in SCRIPTS),
        marks=MARKS,
        ours=OURS,
        middle_rate=middle_rate,
        wording=wording,
        level=LEVEL,
        most_points=MOST_POINTS,
        confidence=f"{100 * CONFIDENCE:.0f}",
        resamples=f"{RESAMPLES:,}",
    )


def _kinds(summary: Summary) -> dict[str, str]:
    """The kinds of the tasks, in the order of wording.KINDS, with their names."""
    present = {task.facts["kind"] for task in summary.tasks}
    return {kind: label for kind, label in wording.KINDS.items() if kind in present}
