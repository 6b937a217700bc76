"""The tables of docs/dialects.md, as the rows of dialects and recipes print them."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from meansquare.dialects import DIALECTS, Dialect
from meansquare.lab.catalogue import defaults, settings_of_recipe, spelled
from meansquare.maths import maths
from meansquare.recipes import RECIPES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "dialects.md"
END = "<!-- end -->"
DECAY = {"l2": "in the gradient", "decoupled": "`lr*wd` of `p`", "corrected": "corrected"}


def print_page() -> str:
    """The page with its generated tables."""
    text = PAGE.read_text()
    for name, table in (("steps", steps()), ("names", names()), ("recipes", recipes())):
        begin = f"<!-- {name} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n\n{table}\n\n{END}{rest.split(END, 1)[1]}"
    return text


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    rule = tuple("---" for _ in head)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def steps() -> str:
    head = ("dialect", "a step", "lr", "alpha", "eps", "momentum", "lr in `b`", "weight decay")
    return table((*head, "verified"), map(_step, DIALECTS.values()))


def _step(row: Dialect) -> tuple[str, ...]:
    hyper = row.hyper()
    statements, _, first = maths(hyper).partition("  (")
    shown = "<br>".join(f"`{one}`" for one in statements.split(";  "))
    shown += f"<br>{first.rstrip(')')}" if first else ""
    made = set(map(row.setting, row.arguments))
    decays = "weight_decay" in made or "weight_decay_mode" in row.settings
    decay = DECAY[hyper.weight_decay_mode] if decays else "none"
    enters = "yes" if hyper.lr_in_momentum else "no"
    return (f"`{row.name}`", shown, *defaults(row), enters, decay, row.verified)


def names() -> str:
    head = ("dialect", "of", "its arguments", "not offered", "its state", "source", "note")
    return table(head, map(_named, DIALECTS.values()))


def _named(row: Dialect) -> tuple[str, ...]:
    state = (f"`{theirs}` = `{ours}`" for theirs, ours in row.state.items() if theirs != ours)
    return (
        f"`{row.name}`",
        row.label,
        ", ".join(f"`{text}`" for text in spelled(row)),
        ", ".join(f"`{name}`" for name in row.refused),
        ", ".join(state) or "as ours",
        row.source,
        row.note,
    )


def recipes() -> str:
    return table(("recipe", "of", "settings", "source", "besides"), _recipes())


def _recipes() -> Iterator[tuple[str, ...]]:
    for one in RECIPES.values():
        settings = f"`{settings_of_recipe(one)}`"
        yield f"`{one.name}`", one.title, settings, one.source, one.besides
