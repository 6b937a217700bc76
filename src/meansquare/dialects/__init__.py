"""What "RMSProp" means elsewhere: each dialect's settings, and its arguments in its own words."""

import difflib
from collections.abc import Mapping
from typing import Any, Literal

from meansquare.dialects import like_tensorflow, like_torch
from meansquare.dialects.row import Dialect as Dialect
from meansquare.dialects.spelling import LEAVE_OUT
from meansquare.family import RMSPropHyper
from meansquare.hyper import RUN_CHECKS
from meansquare.settings import shown

DIALECTS: Mapping[str, Dialect] = {
    row.name: row for row in (*like_torch.ROWS, *like_tensorflow.ROWS)
}
OURS = (*RMSPropHyper.names(), *RUN_CHECKS)
"""The names of every setting, as meansquare spells them; each dialect accepts them too."""
Place = Literal["call", "group", "state"]
"""Where arguments stand: in a call of the constructor, where none may be unknown; in a group, where
users keep things of their own; or in a group of a state dict, which is taken as it is."""

_TORCH_KEYS = {"lr", "momentum", "alpha", "eps", "centered", "weight_decay"}
_TORCH_ALONE = {"foreach", "maximize", "capturable", "differentiable"}
_TIMM_ALONE = {"decoupled_decay", "corrected_weight_decay", "caution"}
_DEFINING = {name for row in DIALECTS.values() for name in row.settings}
_SPELLED = {name for row in DIALECTS.values() for name in row.arguments}


def dialect_of(name: Any) -> Dialect:
    """The dialect of a name. Raises ValueError where there is none."""
    if isinstance(name, str) and name in DIALECTS:
        return DIALECTS[name]
    near = difflib.get_close_matches(name.lower(), DIALECTS, n=1) if isinstance(name, str) else []
    hint = f" (did you mean {near[0]!r}?)" if near else ""
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


def own_settings(row: Dialect) -> dict[str, Any]:
    """Every setting that some dialect is made of, as this one has it."""
    plain = RMSPropHyper()
    own = {name: getattr(plain, name) for name in _DEFINING - {"lr"}}
    return own | dict(row.settings) | {"dialect": row.name}


def in_our_words(
    row: Dialect,
    given: Mapping[str, Any],
    *,
    place: Place = "call",
    besides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What is given, as our settings; `besides` are arguments that hold where these say nothing."""
    everything = {**(besides or {}), **given}
    told: dict[str, Any] = {}  # by functions of rows
    settings: dict[str, Any] = {}
    makers: dict[str, Any] = {}
    for name, value in given.items():
        if name in row.refused and _counts(row, name, place):
            row.refuse(name, value)
            if name not in OURS:
                continue
        spelling = row.arguments.get(name, name)
        setting, tell = spelling if isinstance(spelling, tuple) else (spelling, name)
        if makers.setdefault(setting, tell) is not tell:
            raise TypeError(f"{setting} is given twice, once as {name}; give one of the two")
        if callable(tell):
            told |= tell(everything)
        elif _may_be(row, setting, place):
            settings[setting] = value
        else:
            raise TypeError(_unknown(row, name))
    return told | settings


def _counts(row: Dialect, name: str, place: Place) -> bool:
    """Whether an argument that is not offered has a meaning there: users label groups, too."""
    return place == "call" or (place == "group" and row.refused[name][1] != LEAVE_OUT)


def _may_be(row: Dialect, name: Any, place: Place) -> bool:
    """Whether a name that is no argument of the dialect may stand there."""
    if name in OURS or place == "state":
        return True
    if place == "call" or not isinstance(name, str):
        return place != "call"
    # torch lets anything stand in a group; elsewhere what another dialect knows is a mistake.
    near = difflib.get_close_matches(name, row.arguments, n=1, cutoff=0.8)
    return row.name == "torch" or not (near or name in _SPELLED)


def _unknown(row: Dialect, name: str) -> str:
    known = (*row.arguments, *row.refused, *OURS)
    near = difflib.get_close_matches(name, known, n=1)
    its = ", ".join(row.arguments)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {its}, and what help(RMSProp) tells"
    return f"dialect {row.name!r} has no argument {name!r} ({hint})"


def wrote(group: Mapping[str, Any]) -> tuple[str, ...]:
    """The dialects whose optimizer may have written this group of a state dict, as its keys tell.

    Empty where they do not, as in groups of ours before they named their dialect.
    """
    if "dialect" in group:
        return (group["dialect"],)
    if "eps_place" in group or not group.keys() >= _TORCH_KEYS:
        return ()
    if _TIMM_ALONE & group.keys():
        return ("timm",)
    if _TORCH_ALONE & group.keys():
        return ("torch",)
    return ("torch", "sb3")  # torch before 1.12 wrote the very keys that Stable-Baselines3 writes
