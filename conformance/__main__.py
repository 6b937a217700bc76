"""Drive every framework and ours on the same problem, and print how far they are apart.

python -m conformance            exit 1 where a dialect differs by more than its tolerance, lacks an
                                 argument, or where a framework is installed and does not run
python -m conformance --write    and write tests/golden and the tables of docs/dialects.md
"""

import argparse
import functools
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from conformance import golden, prodigy
from conformance.cases import FRAMEWORKS, LR
from conformance.environments import ENVIRONMENTS
from conformance.framework import (
    FLOAT32,
    FLOAT64,
    ROUNDED,
    Framework,
    Run,
    divides_by_nothing,
)
from conformance.ours import difference, first_nan, longest_step, path
from conformance.problem import NEAR_CONSTANT, STARTS, VARIED, flat
from meansquare.dialects import DIALECTS

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".conformance"
LONGEST = 600  # seconds that a framework may take


@dataclass(frozen=True, eq=False)
class Result:
    """What came of a framework: its version and its paths by run and case, or why it has none."""

    framework: Framework
    version: str = ""
    paths: dict[tuple[str, int], np.ndarray] | None = None
    arguments: tuple[str, ...] = ()
    why_not: str = ""

    @functools.cached_property
    def gaps(self) -> dict[tuple[str, int], float]:
        """How far ours is from theirs, of each call that is compared."""
        return {
            (run.dtype, i): difference(
                path(self.framework.dialect, case, run), self.paths[run.key, i]
            )
            for run, cases in self.framework.runs()
            for i, case in enumerate(cases)
            if run.problem is VARIED and not divides_by_nothing(self.framework.dialect, case)
        }

    def largest(self, dtype: str, tolerances: tuple[float, ...]) -> str:
        """The largest gap of calls that have one of these tolerances."""
        gaps = [
            gap
            for (kind, i), gap in self.gaps.items()
            if kind == dtype
            and self.framework.tolerance(self.framework.cases[i], dtype) in tolerances
        ]
        return f"{max(gaps):.0e}" if gaps else "-"

    def excesses(self) -> list[str]:
        """Calls in which the two differ by more than they may, and where ours is not finite."""
        name, cases = self.framework.name, self.framework.cases
        found = [
            f"{name}, {dtype}, {cases[i]}: {gap:.1e}"
            for (dtype, i), gap in self.gaps.items()
            if gap > self.framework.tolerance(cases[i], dtype)
        ]
        for run, cases in self.framework.runs():
            for case in cases:
                if not np.isfinite(path(self.framework.dialect, case, run)).all():
                    found.append(f"{name}, {run.key}, {case}: ours is not finite")
        row = DIALECTS[self.framework.dialect]
        unknown = set(self.arguments) - row.arguments.keys() - row.refused.keys()
        return [*found, *(f"{name}: its argument {one} is not in the row" for one in unknown)]


def drive(framework: Framework) -> Result:
    """Run a framework in its environment."""
    (environment,) = (one for one in ENVIRONMENTS if one.name == framework.environment)
    file = FOLDER / f"{framework.name}.npz"
    python = str(environment.python(FOLDER))
    command = [python, "-m", "conformance.drivers", framework.name, str(file)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=LONGEST
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Result(framework, why_not=str(error))
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it ended without a word"]
        return Result(framework, why_not=said[-1])
    with np.load(file) as held:
        paths = {(key.rpartition(" ")[0], int(key.rpartition(" ")[2])): held[key] for key in held}
    told = json.loads(done.stdout.splitlines()[-1])
    return Result(framework, told["version"].split("+")[0], paths, tuple(told["arguments"]))


def table(*rows: tuple[str, ...]) -> str:
    """Markdown, the first row its head; columns after the third are numbers."""
    rule = ["--:" if i > 2 else "---" for i in range(len(rows[0]))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:]))


def differences(results: list[Result]) -> str:
    head = ("framework", "dialect", "version", "calls", "float64", "float64, rounded", "float32")
    rows = []
    for result in results:
        name = (result.framework.name, f"`{result.framework.dialect}`")
        if result.paths is None:
            rows.append((*name, "not run", result.why_not, "", "", ""))
            continue
        exact = result.largest("float64", (FLOAT64,)), result.largest("float64", (ROUNDED,))
        calls = str(len({i for _, i in result.gaps}))
        rows.append((*name, result.version, calls, *exact, result.largest("float32", (FLOAT32,))))
    return table(head, *rows)


def hazards(results: list[Result]) -> str:
    """What near-constant gradients do to centered RMSProp, theirs and ours."""
    run, start = Run(NEAR_CONSTANT, "float32"), flat(STARTS)
    head = ("framework", "dialect", "version", "theirs is NaN at step", "its longest step")
    rows = [(*head, "ours is NaN at step", "its longest step")]
    for result in results:
        case = result.framework.centered
        if case is None or result.paths is None:
            continue
        both = result.paths[run.key, 0], path(result.framework.dialect, case, run)
        shown = [
            text
            for one in both
            for text in (str(first_nan(one) or "never"), f"{longest_step(one, start, LR):,.0f} lr")
        ]
        rows.append(
            (result.framework.name, f"`{result.framework.dialect}`", result.version, *shown)
        )
    return table(*rows)


def check_prodigy(write: bool) -> list[str]:
    """Whether prodigyopt still computes what is kept of it, or keep what it computes now."""
    (environment, *_) = ENVIRONMENTS
    file = FOLDER / "prodigy.json"
    command = [str(environment.python(FOLDER)), "-m", "conformance.prodigy", str(file)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=LONGEST
    )
    if done.returncode:
        return [f"prodigyopt did not run: {done.stderr.strip().splitlines()[-1]}"]
    told = json.loads(file.read_text())
    if write:
        prodigy.keep(**told)
    gap = prodigy.difference(told["rows"])
    print(f"{told['made_by']}: {gap:.0e} from what is kept of it")
    return [f"prodigyopt differs from tests/golden: {gap:.1e}"] if gap > prodigy.ROUNDING else []


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--write", action="store_true", help="golden files and docs/dialects.md too"
    )
    write = parser.parse_args().write
    FOLDER.mkdir(exist_ok=True)
    lacking = {one.name: wrong for one in ENVIRONMENTS if (wrong := one.install(FOLDER))}
    for name, wrong in lacking.items():
        print(f"environment {name}: {wrong}")
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(drive, FRAMEWORKS))
    tables = differences(results), hazards(results)
    print(*tables, sep="\n\n")
    ran = [result for result in results if result.paths is not None]
    wrong = [text for result in ran for text in result.excesses()]
    # Where a package cannot be had here, its framework is named and left out; else it has to run.
    wrong += [
        f"{result.framework.name} did not run: {result.why_not}"
        for result in results
        if result.paths is None and (write or result.framework.environment not in lacking)
    ]
    wrong += check_prodigy(write) if "main" not in lacking else []
    for text in wrong:
        print(f"wrong: {text}")
    if write and not wrong:
        publish(ran, tables)
    return 1 if wrong or not ran else 0


def publish(results: list[Result], tables: tuple[str, ...]) -> None:
    """Keep what came out, and checkpoints that other optimizers write."""
    (environment, *_) = ENVIRONMENTS
    command = [environment.python(FOLDER), "-m", "conformance.checkpoints", golden.CHECKPOINTS]
    subprocess.run(list(map(str, command)), check=True, cwd=ROOT, capture_output=True)
    golden.write(results)
    golden.publish("\n\n".join(tables))


if __name__ == "__main__":
    sys.exit(main())
