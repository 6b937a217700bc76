"""What a checkpoint holds, as the doctor tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table
from torch import Tensor

from meansquare.checkpoint import read_checkpoint
from meansquare.lab.errors import LabError
from meansquare.spec import Hyper, shown
from meansquare.state import STATE_NAMES, step_count


def describe(path: Path) -> Table:
    """A row per fact of the optimizer's state in a file; LabError where it cannot be read."""
    try:
        rows = _rows(read_checkpoint(path))
    except (OSError, ValueError, TypeError) as error:
        raise LabError(str(error).removeprefix("RMSProp: ")) from error
    table = Table("checkpoint", escape(shown(path.name)[1:-1]))
    for name, value in rows.items():
        table.add_row(name, escape(value))
    return table


def _rows(saved: Mapping[str, Any]) -> dict[str, str]:
    groups = saved["param_groups"]
    ids = [key for group in groups for key in group["params"]]
    states = {key: saved["state"][key] for key in ids if key in saved["state"]}
    tensors = [
        value
        for state in states.values()
        for name, value in state.items()
        if isinstance(value, Tensor) and name != "step"
    ]
    dtypes = dict.fromkeys(str(tensor.dtype).removeprefix("torch.") for tensor in tensors)
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return {
        "optimizer": _maker(groups, list(states.values())),
        "groups": str(len(groups)),
        "parameters": f"{len(ids)}, {len(states)} with state",
        "state": f"{', '.join(dtypes) or 'none'}, {size:,} bytes",
        "steps": _steps(states),
        **_options(groups),
    }


def _maker(groups: Sequence[Mapping[str, Any]], states: Sequence[Mapping[Any, Any]]) -> str:
    """Which optimizer wrote this, by the names it uses."""
    foreign = [name for state in states for name in state if name not in STATE_NAMES]
    if foreign or not all("alpha" in group and "centered" in group for group in groups):
        return "another, not RMSProp" + (f" (its state has {shown(foreign[0])})" if foreign else "")
    ours = any("eps_place" in group for group in groups)
    return "meansquare.RMSProp" if ours else "torch.optim.RMSprop"


def _steps(states: Mapping[Any, Mapping[Any, Any]]) -> str:
    counts = [
        step_count(state["step"], f"parameter {shown(key)}")
        for key, state in states.items()
        if "step" in state
    ]
    if not counts:
        return "none"
    low, high = min(counts), max(counts)
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"


def _options(groups: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    hypers = [Hyper.checked(group, f" in group {i}") for i, group in enumerate(groups)]
    return {
        "centered": _where([hyper.centered for hyper in hypers]),
        "momentum": _where([hyper.momentum > 0 for hyper in hypers]),
    }


def _where(used: Sequence[bool]) -> str:
    if len(set(used)) <= 1:
        return "yes" if any(used) else "no"
    return "in groups " + ", ".join(str(i) for i, is_used in enumerate(used) if is_used)
