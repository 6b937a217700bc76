"""What a checkpoint holds, or what is installed, as the doctor tells it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from meansquare.checkpoint import read_checkpoint
from meansquare.diagnosis import Finding, doctor
from meansquare.diagnosis.patient import Patient
from meansquare.dialects import DIALECTS
from meansquare.family import AdaGradHyper, AdamHyper, RpropHyper, SGDHyper
from meansquare.hyper import Hyper
from meansquare.lab.environment import package_version, platform_name, usable_cores
from meansquare.lab.errors import LabError
from meansquare.settings import shown
from meansquare.state import step_count


def installation() -> Iterator[Table | str]:
    """Versions, cores and live backends."""
    import torch

    import meansquare

    for name in ("meansquare", "torch", "numpy"):
        yield f"{name:12}{package_version(name) or 'not installed'}"
    yield f"{'python':12}{sys.version.split()[0]}, {platform_name()}"
    yield f"{'cores':12}{usable_cores()} usable, {torch.get_num_threads()} torch threads"
    table = Table("backend", "live", "why")
    for backend in meansquare.backends():
        table.add_row(backend.name, "yes" if backend.live else "no", backend.detail)
    yield table


def checkup(path: Path) -> Iterator[Table | str]:
    """A table of facts about the optimizer's state in a file, then one for each hazard.

    Raises LabError where it cannot be read.
    """
    try:
        saved = read_checkpoint(path)
        rows, findings = _rows(saved), doctor(saved)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise LabError(str(error).removeprefix("meansquare: ").removeprefix("doctor: ")) from error
    table = Table("checkpoint", escape(shown(path.name)[1:-1]))
    for name, value in rows.items():
        table.add_row(name, escape(value))
    yield table
    yield from map(_finding, findings)
    yield f"{len(findings) or 'No'} hazard{'' if len(findings) == 1 else 's'} found."


def _finding(finding: Finding) -> Table:
    table = Table(finding.hazard, escape(finding.where))
    table.add_row("evidence", escape(finding.evidence))
    table.add_row("remedy", escape(finding.remedy))
    return table


def _rows(saved: Mapping[str, Any]) -> dict[str, str]:
    groups = saved["param_groups"]
    ids = [key for group in groups for key in group["params"]]
    states = {key: saved["state"][key] for key in ids if key in saved["state"]}
    patient = Patient.of_state_dict(saved)
    tensors = [value for _, held in patient.each() for value in held.stored.values()]
    dtypes = dict.fromkeys(str(tensor.dtype).removeprefix("torch.") for tensor in tensors)
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return {
        "optimizer": _maker(patient, groups, {name for state in states.values() for name in state}),
        "groups": str(len(groups)),
        "parameters": f"{len(ids)}, {len(states)} with state",
        "state": f"{', '.join(dtypes) or 'none'}, {size:,} bytes",
        "steps": _steps(states),
        **_options(groups),
    }


_RMSPROPS: dict[str, str] = {
    "meansquare": "meansquare.RMSProp",
    "torch": DIALECTS["torch"].label,
    "timm": DIALECTS["timm"].label,
    "bitsandbytes": DIALECTS["bitsandbytes"].label,
    "torch or sb3": f"{DIALECTS['torch'].label} before torch 1.12, or {DIALECTS['sb3'].label}",
}
# Of the others, by names that only its groups have: ours, torch's, and what its state holds.
_OTHERS: dict[str, tuple[str, str, type[Hyper]]] = {
    "amsgrad": ("Adam", "Adam", AdamHyper),
    "lr_decay": ("AdaGrad", "Adagrad", AdaGradHyper),
    "etas": ("Rprop", "Rprop", RpropHyper),
    "dampening": ("SGD", "SGD", SGDHyper),
}


def _maker(patient: Patient, groups: Sequence[Mapping[str, Any]], used: set[str]) -> str:
    """Which optimizer wrote this, by the names it uses."""
    makers = {group.maker for group in patient.groups}
    if len(makers) == 1 and (name := _RMSPROPS.get(makers.pop())):
        return name
    for name, (ours, theirs, kind) in _OTHERS.items():
        if groups and all(name in group for group in groups) and used <= {"step", *kind.STATE}:
            is_ours = any("seed" in group for group in groups)
            kind = ours if is_ours else theirs
            kind += "W" if all(group.get("decoupled_weight_decay") for group in groups) else ""
            return f"meansquare.{kind}" if is_ours else f"torch.optim.{kind}"
    return "another" + (
        f" (its state has {', '.join(map(shown, sorted(used, key=str)))})" if used else ""
    )


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
    """Whether groups are centered and have momentum, where their optimizer has such a setting."""
    used = {
        name: [group.get(name) for group in groups]
        for name in ("centered", "momentum")
        if all(name in group for group in groups)
    }
    return {name: _where([bool(value) for value in values]) for name, values in used.items()}


def _where(used: Sequence[bool]) -> str:
    if len(set(used)) <= 1:
        return "yes" if any(used) else "no"
    return "in groups " + ", ".join(str(i) for i, is_used in enumerate(used) if is_used)
