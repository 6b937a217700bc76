"""Where a run was made: versions, machine, commit. Nothing here names a user, a host or a path."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = ("meansquare", "torch", "numpy")


@functools.cache
def describe_environment() -> dict[str, Any]:
    """Versions, machine and commit of this process, ready for JSON."""
    return {
        "versions": {name: package_version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
        "machine": {"platform": platform_name(), "cpu": _cpu_model(), "cores": usable_cores()},
        "commit": _commit(),
    }


def package_version(name: str) -> str | None:
    """The installed version of a distribution, None when it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def platform_name() -> str:
    """Operating system and processor family, for example `Linux x86_64`."""
    return f"{platform.system()} {platform.machine()}"


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), None)


def _commit() -> str | None:
    here = Path(__file__).resolve()
    # A virtual environment may lie inside some other repository: this file has to be tracked.
    if not _git("ls-files", "--error-unmatch", here.name, folder=here.parent):
        return None
    return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*", folder=here.parent)


def _git(*arguments: str, folder: Path) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
