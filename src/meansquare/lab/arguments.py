"""What the command line is given, checked: every refusal is a LabError of one line."""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from meansquare.dialects import DIALECTS
from meansquare.lab.errors import LabError
from meansquare.lab.setups import SETUPS, is_setup
from meansquare.lab.tasks import KINDS, TASKS
from meansquare.lab.tasks.named import is_task

if TYPE_CHECKING:
    from meansquare.lab.claims import Claim
    from meansquare.lab.exact import Case

EXTRAS = (
    "sklearn",
    "statsmodels",
    "matplotlib",
    "jinja2",
    "scipy",
    "river",
    "gymnasium",
    "mnist1d",
)
ALL, EXACT = "all", "exact"
LONGEST_NAME = 100
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600}


def task_names(given: Sequence[str]) -> tuple[str, ...]:
    """Tasks as they are named, where a kind (and `all`) stands for all of its tasks."""
    names: list[str] = []
    for name in given:
        if name == ALL:
            names += TASKS
        elif name in KINDS and any(listing.kind == name for listing in TASKS.values()):
            names += (task for task, listing in TASKS.items() if listing.kind == name)
        else:
            names.append(name)
    return _checked("TASKS", "task", names, [*TASKS, *KINDS, ALL], is_task)


def optimizer_names(text: str) -> tuple[str, ...]:
    """Optimizers as they are named, with commas between."""
    names = [name.strip() for name in text.split(",")]
    return _checked("--optimizers", "optimizer", names, [*SETUPS, *DIALECTS], is_setup)


def claim_names(given: Sequence[str]) -> tuple[list[Case], list[Claim]]:
    """Exact cases and claims as they are named, all of them where none is; `exact`: all cases."""
    from meansquare.lab.claims import CLAIMS
    from meansquare.lab.exact import CASES

    names = list(given) or [EXACT, *CLAIMS]
    names = [case for name in names for case in (CASES if name == EXACT else [name])]
    known = [EXACT, *CLAIMS, *CASES]
    _checked("CLAIMS", "claim", names, known, {*known}.__contains__)
    return [CASES[n] for n in names if n in CASES], [CLAIMS[n] for n in names if n in CLAIMS]


def at_least_one(option: str, value: int, what: str) -> int:
    if value < 1:
        raise LabError(f"{option} must be at least 1, got {value}; it is the number of {what}.")
    return value


def seconds(option: str, text: str) -> float:
    """A duration such as 90s, 15m or 1.5h, in seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h)", text.strip())
    if not found or not float(found[1]):
        raise LabError(f"{option} must be a time such as 90s, 15m or 1.5h, got {text!r}.")
    return float(found[1]) * _SECONDS[found[2]]


def require_extras(command: str) -> None:
    """LabError where a package of the extra `lab` is not installed."""
    missing = [name for name in EXTRAS if importlib.util.find_spec(name) is None]
    if missing:
        raise LabError(f"{command} needs {', '.join(missing)}; run: pip install 'meansquare[lab]'")


def _checked(
    option: str,
    noun: str,
    names: Sequence[str],
    known: Iterable[str],
    allowed: Callable[[str], bool],
) -> tuple[str, ...]:
    known = list(known)
    for name in names:
        if not allowed(name):
            raise LabError(f"{option}: no {noun} is called {name!r}; {_suggest(name, known)}")
        if names.count(name) > 1:
            raise LabError(f"{option}: {name!r} is named twice; name each {noun} once.")
        if len(name) > LONGEST_NAME or not name.isprintable() or {*"$[\\"} & {*name}:
            raise LabError(
                f"{option}: {name!r} is no name for a report; use a path of at most "
                f"{LONGEST_NAME} letters, without $, [ or a backslash."
            )
    return tuple(names)


def _suggest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    choices = f"choose from {', '.join(known)}."
    return f"did you mean {near[0]!r}? Otherwise {choices}" if near else choices
