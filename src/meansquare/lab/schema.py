"""What a record file may hold: the form of its header and of its runs, as the report reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, get_args

from meansquare.lab.setups import is_setup
from meansquare.lab.space import Axis, Search
from meansquare.lab.study import Phase
from meansquare.lab.tasks import KINDS, Facts
from meansquare.lab.tasks.named import is_task
from meansquare.settings import shown

# Larger than float32 and any patience: beyond, sums overflow and labels fill the pictures.
LARGEST, LONGEST_TIME = 1e40, 1e12
MOST, MOST_SEEDS, LONGEST = 2**53, 100_000, 10_000  # of counts, of seeds, of letters in a text
STATUSES = ("ok", "diverged")
CURVES = (
    "train_loss", "validation_loss", "validation_metric", "steps_at", "optimizer_seconds_at",
    "training_seconds_at",
)  # fmt: skip
_MARKUP = set("$[\\")  # a label is drawn and printed, where these begin formulas and styles

Accepts = Callable[[Any], bool]


def fault(values: Any, accepts: Mapping[str, Accepts]) -> str | None:
    """What keeps a JSON object from having these fields and no others, in a few words."""
    if not isinstance(values, dict):
        return f"{shown(values)} where an object is wanted"
    if values.keys() != accepts.keys():
        return f"fields differ: {shown(sorted(values.keys() ^ accepts.keys()))}"
    wrong = (name for name, accept in accepts.items() if not accept(values[name]))
    return next((f"{name} is {shown(values[name])}" for name in wrong), None)


def header_fault(header: Mapping[str, Any]) -> str | None:
    """What is wrong with the protocol, the tasks or the setups of a header."""
    if wrong := fault(header.get("protocol"), PROTOCOL) or _disagreement(header["protocol"]):
        return f"protocol: {wrong}"
    for part, names, accepts in (
        ("tasks", header["protocol"]["tasks"], FACTS),
        ("setups", header["protocol"]["optimizers"], SETUP),
    ):
        held = header.get(part)
        if not isinstance(held, dict) or held.keys() != set(names):
            return f"{part} are not those of its protocol"
        for name in names:
            if wrong := fault(held[name], accepts):
                return f"{part}: {name}: {wrong}"
    misnamed = [name for name, facts in header["tasks"].items() if facts["name"] != name]
    return f"tasks: {misnamed[0]} has another name" if misnamed else None


def _disagreement(protocol: Mapping[str, Any]) -> str | None:
    if protocol["epochs"].keys() != set(protocol["tasks"]):
        return "epochs are not those of its tasks"
    if protocol["axes"].keys() != set(protocol["optimizers"]):
        return "axes are not those of its optimizers"
    return None


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOST


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= LARGEST


def _is_size(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_time(value: Any) -> bool:
    return _is_size(value) and value <= LONGEST_TIME


def _is_text(value: Any) -> bool:
    surrogates = isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value)
    return isinstance(value, str) and len(value) <= LONGEST and not surrogates


def _is_label(value: Any) -> bool:
    return (
        _is_text(value)
        and 0 < len(value) <= 100
        and value.isprintable()
        and not (_MARKUP & set(value))
    )


def _list_of(accept: Accepts) -> Accepts:
    return lambda value: isinstance(value, list) and all(map(accept, value))


def _some_of(accept: Accepts) -> Accepts:
    """A list of at least one, all different."""
    several = _list_of(accept)
    return lambda value: several(value) and 0 < len(value) == len(set(value))


def _dict_of(accept: Accepts) -> Accepts:
    return lambda value: (
        isinstance(value, dict)
        and all(_is_label(name) and accept(one) for name, one in value.items())
    )


def _or_none(accept: Accepts) -> Accepts:
    return lambda value: value is None or accept(value)


def _object(accepts: Mapping[str, Accepts]) -> Accepts:
    return lambda value: fault(value, accepts) is None


AXIS: Mapping[str, Accepts] = dict.fromkeys(
    (field.name for field in fields(Axis)), _is_positive
) | {
    "name": _is_label,
    "of": lambda value: value in ("value", "one minus"),
}
PROTOCOL: Mapping[str, Accepts] = {
    "tasks": _some_of(lambda name: isinstance(name, str) and is_task(name)),
    "optimizers": _some_of(lambda name: isinstance(name, str) and is_setup(name)),
    "budget": _is_count,
    "seeds": lambda value: _is_count(value) and 0 < value <= MOST_SEEDS,
    "epochs": _dict_of(lambda value: _is_count(value) and value > 0),
    "search": lambda value: value in get_args(Search),
    "rates": lambda value: _list_of(_is_positive)(value) and len(value) == 2,
    "axes": _dict_of(_list_of(_object(AXIS))),
    "tuning_seed": _is_count,
    "most_widenings": _is_count,
}
FACTS: Mapping[str, Accepts] = dict.fromkeys((field.name for field in fields(Facts)), _is_label) | {
    "model": _is_text,
    "parameters": _is_count,
    "batch_size": _is_count,
    "kind": lambda value: value in KINDS,
    "sizes": _dict_of(_is_count),
    "higher_is_better": lambda value: isinstance(value, bool),
    "baselines": _dict_of(_is_number),
    "notes": _is_text,
    "target": _or_none(_is_number),
    "events": _dict_of(_is_size),
    "blow_up": _or_none(_is_positive),
    "scale": lambda value: value in ("linear", "log"),
}
SETUP: Mapping[str, Accepts] = {"label": _is_label, "call": _is_text}
MACHINE: Mapping[str, Accepts] = {
    "platform": _is_text,
    "cpu": _or_none(_is_text),
    "cores": _is_count,
}
MADE_BY: Mapping[str, Accepts] = {
    "versions": _dict_of(_or_none(_is_text)),
    "machine": _object(MACHINE),
    "commit": _or_none(_is_text),
}
RUN: Mapping[str, Accepts] = {
    "phase": lambda value: value in get_args(Phase),
    "task": _is_text,
    "optimizer": _is_text,
    "settings": lambda value: _dict_of(_is_number)(value) and value.get("lr", 0) > 0,
    "seed": _is_count,
    "epochs": _is_count,
    "status": lambda value: value in STATUSES,
    "diverged_at": _or_none(_is_count),
    "train_loss": _list_of(_is_number),
    "validation_loss": _list_of(_is_number),
    "validation_metric": _list_of(_is_number),
    "test_metric": _or_none(_is_number),
    "series": _dict_of(_list_of(_is_number)),
    "steps": _is_count,
    "steps_at": _list_of(_is_count),
    "step_us": _is_time,
    "optimizer_seconds": _is_time,
    "optimizer_seconds_at": _list_of(_is_time),
    "training_seconds": _is_time,
    "training_seconds_at": _list_of(_is_time),
    "made_by": _object(MADE_BY),
}
