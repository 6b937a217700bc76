"""Dialects and recipes as the command line shows them."""

from __future__ import annotations

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Column, Table

from meansquare.dialects import DIALECTS, Dialect, dialect_of, settings_of
from meansquare.family import RMSPropHyper
from meansquare.lab.errors import LabError
from meansquare.maths import maths
from meansquare.recipes import RECIPES, Recipe, recipe

_NUMBERS = ("lr", "alpha", "eps", "momentum")


def dialect_table() -> Table:
    """A row for each dialect: its step in one line, its defaults, how it was verified."""
    table = Table(
        Column("dialect", no_wrap=True), Column("a step", overflow="fold"), "defaults", "verified"
    )
    for row in DIALECTS.values():
        numbers = "\n".join(map(" ".join, zip(_NUMBERS, defaults(row), strict=True)))
        table.add_row(row.name, escape(maths(row.hyper())), numbers, row.verified, end_section=True)
    return table


def defaults(row: Dialect) -> Iterator[str]:
    """Its default numbers; a dash where there is none."""
    hyper = row.hyper()
    for name in _NUMBERS:
        missing = name == "lr" and "lr" not in row.settings
        yield "-" if missing else f"{getattr(hyper, name):g}"


def dialect_card(name: str) -> Table:
    """Everything that is known of a dialect; LabError where there is none of this name."""
    try:
        row = dialect_of(name)
    except ValueError as error:
        raise LabError(str(error)) from error
    table = Table("dialect", row.name, show_header=True)
    for label, text in _card(row).items():
        if text:
            table.add_row(label, escape(text))
    return table


def _card(row: Dialect) -> dict[str, str]:
    with_momentum = row.hyper(momentum=0.9)
    others = {key: value for key, value in row.settings.items() if key not in _NUMBERS}
    return {
        "of": row.label,
        "a step": maths(row.hyper()),
        "with momentum": maths(with_momentum) if not row.settings.get("momentum") else "",
        "defaults": ", ".join(map("=".join, zip(_NUMBERS, defaults(row), strict=True))),
        "besides": ", ".join(f"{key}={value!r}" for key, value in others.items()),
        "arguments": ", ".join(spelled(row)),
        "not offered": "; ".join(_refused(row)),
        "state": ", ".join(f"{theirs} = {ours}" for theirs, ours in row.state.items()),
        "note": row.note,
        "verified": f"{row.verified}: {row.source}",
    }


def spelled(row: Dialect) -> Iterator[str]:
    """Its arguments, with our names where they have others."""
    for theirs in row.arguments:
        setting = row.setting(theirs)
        yield theirs if setting == theirs else f"{theirs} = {setting}"


def _refused(row: Dialect) -> Iterator[str]:
    for instead in dict.fromkeys(text for _, text in row.refused.values()):
        names = ", ".join(name for name, (_, text) in row.refused.items() if text == instead)
        yield f"{names} ({instead})"


def recipe_table() -> Table:
    """A row for each recipe; its source and what else belongs to it are on its card."""
    table = Table(Column("recipe", no_wrap=True), "of", Column("settings", overflow="fold"))
    for one in RECIPES.values():
        settings = escape(settings_of_recipe(one).replace(", ", "\n"))
        table.add_row(one.name, one.title, settings, end_section=True)
    return table


def recipe_card(name: str) -> Table:
    """Everything that is known of a recipe; LabError where there is none of this name."""
    try:
        one = recipe(name)
    except ValueError as error:
        raise LabError(str(error).removeprefix("recipe: ")) from error
    table = Table("recipe", one.name)
    rule = maths(RMSPropHyper.checked(settings_of(one), "recipe"))
    settings = settings_of_recipe(one)
    rows = {"of": one.title, "settings": settings, "a step": rule, "besides": one.besides}
    for label, text in (rows | {"source": one.source}).items():
        table.add_row(label, escape(text))
    return table


def settings_of_recipe(one: Recipe) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in one.items())
