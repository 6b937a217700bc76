"""Kernels of rules that are not built in: printed, compiled once, kept in a cache and loaded."""

import functools
import hashlib
import os
import shlex
import shutil
import stat
import subprocess
import tempfile
import warnings
from pathlib import Path

from meansquare.hyper import Rule
from meansquare.kernels import cpu
from meansquare.printer import cpp_measure, cpp_rule

_HEADERS = ("numbers.h", "storage.h", "step.h", "measure.h", "probes.h", "kernels.h")
_FLAGS = ("-std=c++20", "-shared", "-fPIC", "-fvisibility=hidden")
_COMPILERS = ("c++", "g++", "clang++")


class _UnavailableError(Exception):
    """Why a rule has no kernel, in words."""


def missing(rule: Rule) -> str:
    """Why there is no C++ kernel of a rule; empty where there is one, or is one from now on.

    A rule that is not built in (a user's, a cautious one) is compiled here, or taken from the
    cache, the first time that it is asked for. Where that fails, a RuntimeWarning says so once.
    """
    return "" if cpu.native is None or cpu.native.has_rule(rule.key) else _compile(rule)


@functools.cache
def _compile(rule: Rule) -> str:
    try:
        _load(rule)
    except Exception as error:  # whatever the machine lacks, torch operations can step
        why = f"its rule is not compiled: {' '.join(str(error).split())}"
        warnings.warn(
            f"{rule.key}: {why}; steps run through torch operations", RuntimeWarning, stacklevel=2
        )
        return why
    return ""


def _load(rule: Rule) -> None:
    source, headers = _source(rule), _headers()
    flags = (*_FLAGS, *shlex.split(cpu.native.compile_flags()))
    text = "\n".join((source, *flags, cpu.native.headers()))
    name = f"{rule.key}_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    library, digest = (_cache() / f"{name}.{kind}" for kind in ("so", "sha256"))
    if _is_whole(library, digest) and not cpu.native.load_rule(rule.key, str(library)):
        return
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made, its_digest = Path(folder) / library.name, Path(folder) / digest.name
        _run([*_compiler(), *flags, f"-I{headers}", "-x", "c++", "-", "-o", str(made)], source)
        if wrong := cpu.native.load_rule(rule.key, str(made)):
            raise _UnavailableError(f"it was compiled but does not load ({wrong})")
        its_digest.write_text(hashlib.sha256(made.read_bytes()).hexdigest())
        os.replace(made, library)
        os.replace(its_digest, digest)


def _is_whole(library: Path, digest: Path) -> bool:
    """Whether a library is what was put into the cache; to load a cut one can end the process."""
    try:
        return hashlib.sha256(library.read_bytes()).hexdigest() == digest.read_text()
    except OSError:
        return False


def _source(rule: Rule) -> str:
    try:
        struct = (cpp_measure(rule) if rule.measure else "") + cpp_rule(rule)
    except Exception as error:
        what = " ".join(str(error).split())
        raise _UnavailableError(
            f"it does what cannot be printed as C++ ({type(error).__name__}: {what})"
        ) from error
    return f"""#define MEANSQUARE_ISA own
#include "kernels.h"
namespace own {{
namespace {{
{struct}
}}
}}
extern "C" __attribute__((visibility("default"))) const KernelEntry meansquare_rule =
    own::entry<own::{rule.key}>("{rule.key}");
"""


def _compiler() -> list[str]:
    asked = shlex.split(os.environ.get("CXX", ""))
    for command in [asked] if asked else [[name] for name in _COMPILERS]:
        if shutil.which(command[0]):
            return command
    looked = " ".join(asked) or ", ".join(_COMPILERS)
    raise _UnavailableError(f"no C++ compiler was found ({looked}); install one or set CXX")


def _headers() -> Path:
    """Where the headers of this very extension lie."""
    folder = Path(cpu.native.__file__).parent / "csrc"
    try:
        texts = [(folder / name).read_bytes() for name in _HEADERS]
    except OSError as error:
        raise _UnavailableError(f"{error.filename} is missing; reinstall meansquare") from error
    digests = "".join(hashlib.sha256(text).hexdigest() for text in texts)
    if hashlib.sha256(digests.encode()).hexdigest() != cpu.native.headers():
        raise _UnavailableError("its headers are not of this build; reinstall meansquare")
    return folder


def _cache() -> Path:
    """A folder that nobody else can write: libraries in it are run."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get("MEANSQUARE_CACHE") or Path(base) / "meansquare")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _UnavailableError(f"others can write to {folder}; set MEANSQUARE_CACHE to a folder")
    return folder


def _run(command: list[str], source: str) -> None:
    done = subprocess.run(command, input=source.encode(), capture_output=True, check=False)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").splitlines()
        said = next((line for line in lines if "error" in line), "no reason")
        raise _UnavailableError(f"{command[0]} failed: {' '.join(said.split())}")
