"""What frameworks computed, kept in small files so that tests need none of them."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from conformance.cases import FRAMEWORKS
from conformance.framework import Framework, divides_by_nothing
from conformance.problem import KEPT

ROOT = Path(__file__).resolve().parents[1]
FILES = ROOT / "tests" / "golden"
CHECKPOINTS = FILES / "checkpoints"
PAGE = ROOT / "docs" / "dialects.md"
BEGIN, END = "<!-- conformance -->", "<!-- end -->"


def write(results: Sequence[Any]) -> None:
    """A file for each dialect, of what its frameworks computed in their highest precision."""
    files: dict[str, list[dict]] = defaultdict(list)
    for result in results:
        files[result.framework.dialect].append(_entry(result))
    FILES.mkdir(exist_ok=True)
    for dialect, entries in files.items():
        (FILES / f"{dialect}.json").write_text(_lines(entries))


def _entry(result: Any) -> dict:
    framework = result.framework
    run, cases = next(framework.runs())  # the highest precision that it has
    kept = [
        {
            "arguments": case,
            "after": {str(t): result.paths[run.key, i][t - 1].tolist() for t in KEPT},
        }
        for i, case in enumerate(cases)
        if not divides_by_nothing(framework.dialect, case)
    ]
    return {
        "framework": framework.name,
        "package": framework.package,
        "version": result.version,
        "made_by": "make golden",
        "dtype": run.dtype,
        "cases": kept,
    }


def _lines(entries: list[dict]) -> str:
    """JSON with a line for each case."""
    texts = []
    for entry in entries:
        cases = ",\n".join(json.dumps(case) for case in entry["cases"])
        head = json.dumps({name: value for name, value in entry.items() if name != "cases"})
        texts.append(f'{head[:-1]}, "cases": [\n{cases}\n]}}')
    return "[" + ",\n".join(texts) + "]\n"


def read() -> Iterator[tuple[Framework, str, str, dict]]:
    """Framework, version, dtype and case of everything that is kept."""
    known = {framework.name: framework for framework in FRAMEWORKS}
    for file in sorted(FILES.glob("*.json")):
        for entry in json.loads(file.read_text()):
            for case in entry["cases"]:
                yield known[entry["framework"]], entry["version"], entry["dtype"], case


def publish(table: str) -> None:
    """Put the table into the documentation."""
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END, 1)[1]
    PAGE.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}")
