"""The report: one self-contained page, its pictures as files, and the summary as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from meansquare.lab import wording
from meansquare.lab.compare import CONFIDENCE, RESAMPLES, Summary
from meansquare.lab.figures import draw
from meansquare.lab.files import make_folder, replace_file
from meansquare.lab.looks import look_of

TEMPLATE = "report.html.j2"


def write(summary: Summary, command: str, folder: Path) -> Path:
    """Write figures/*.png, figures/*.svg, summary.json and report.html; returns the page's path."""
    pictures = {task.facts["name"]: draw(task) for task in summary.tasks}
    make_folder(folder / "figures")
    for picture in (picture for drawn in pictures.values() for picture in drawn):
        replace_file(folder / "figures" / f"{picture.name}.svg", picture.svg.encode())
        replace_file(folder / "figures" / f"{picture.name}.png", picture.png)
    replace_file(folder / "summary.json", (json.dumps(asdict(summary), indent=1) + "\n").encode())
    page = folder / "report.html"
    replace_file(page, _render(summary, command, pictures).encode())
    return page


def _render(summary: Summary, command: str, pictures: Mapping[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("meansquare.lab", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(
        summary=summary,
        protocol=summary.protocol,
        pictures=pictures,
        command=command,
        look_of=look_of,
        wording=wording,
        confidence=f"{100 * CONFIDENCE:.0f}",
        resamples=f"{RESAMPLES:,}",
    )
