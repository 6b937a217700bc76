"""What "RMSProp" means elsewhere: each dialect's settings, and its arguments in its own words."""

import difflib
from collections.abc import Mapping
from typing import Any

from meansquare.dialects import like_tensorflow, like_torch
from meansquare.dialects.row import Dialect as Dialect
from meansquare.family import RMSPropHyper
from meansquare.hyper import RUN_CHECKS
from meansquare.settings import shown

DIALECTS: Mapping[str, Dialect] = {
    row.name: row for row in (*like_torch.ROWS, *like_tensorflow.ROWS)
}
OURS = (*RMSPropHyper.names(), *RUN_CHECKS)
"""The names of every setting, as meansquare spells them; each dialect accepts them too."""

_TORCH_ALONE = {"foreach", "maximize", "capturable", "differentiable"}
_TIMM_ALONE = {"decoupled_decay", "corrected_weight_decay", "caution"}


def dialect_of(name: Any) -> Dialect:
    """The dialect of a name. Raises ValueError where there is none."""
    if isinstance(name, str) and name in DIALECTS:
        return DIALECTS[name]
    near = difflib.get_close_matches(name.lower(), DIALECTS, n=1) if isinstance(name, str) else []
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"dialect must be one of {(*DIALECTS,)}, got {shown(name)}{hint}")


def settings_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of an optimizer that is given some of them, in its dialect's words or in ours.

    What is not given is as the dialect has it. Raises TypeError for an argument that the dialect
    does not know, that is given twice or that has no default, and ValueError for one that it knows
    and that is not offered here; the message says what to do instead.
    """
    row = dialect_of(given.get("dialect", "torch"))
    settings = dict(row.settings) | in_our_words(row, given)
    if "lr" not in settings:
        name = next((name for name, ours in row.arguments.items() if ours == "lr"), "lr")
        raise TypeError(f"dialect {row.name!r} has no learning rate of its own; give {name}")
    return settings


def in_our_words(row: Dialect, given: Mapping[str, Any], *, others: bool = False) -> dict[str, Any]:
    """What is given, as our settings. With `others`, unknown names pass as they are."""
    switches: dict[str, Any] = {}  # what several of its arguments may decide together
    settings: dict[str, Any] = {}
    for name, value in given.items():
        if name in row.refused:
            row.refuse(name, value)
            if name not in OURS:
                continue
        spelling = row.arguments.get(name, name)
        if not isinstance(spelling, str):
            switches |= spelling(given)
        elif spelling in settings:
            raise TypeError(f"{spelling} is given twice, once as {name}; give one of the two")
        elif spelling in OURS or others:
            settings[spelling] = value
        else:
            raise TypeError(_unknown(row, name))
    return switches | settings


def _unknown(row: Dialect, name: str) -> str:
    known = (*row.arguments, *row.refused, *OURS)
    near = difflib.get_close_matches(name, known, n=1)
    its = ", ".join(row.arguments)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {its}, and what help(RMSProp) tells"
    return f"dialect {row.name!r} has no argument {name!r}; {hint}"


def wrote(group: Mapping[str, Any]) -> tuple[str, ...]:
    """The dialects whose optimizer may have written this group of a state dict, as its keys tell.

    Empty where they do not, as in groups of ours before they named their dialect.
    """
    if "dialect" in group:
        return (group["dialect"],)
    if "alpha" not in group or "eps_place" in group:
        return ()
    if _TIMM_ALONE & group.keys():
        return ("timm",)
    if _TORCH_ALONE & group.keys():
        return ("torch",)
    return ("torch", "sb3")  # torch before 1.12 wrote the very keys that Stable-Baselines3 writes
