"""The package installs without a compiler too, and always says which backends are live."""

import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import meansquare
from meansquare.kernels import cpu

ROOT = Path(__file__).resolve().parents[1]
NO_COMPILER = {"CXX": "/nonexistent/c++"}


def run(*command, **env):
    return subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
    )


def build(to, **env):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    wheel = ("pip", "wheel", "-q", "--no-build-isolation", "--no-deps")
    setting = f"--config-settings=build-dir={to}/build"
    return run(sys.executable, "-m", *wheel, setting, "-w", to, ROOT, PATH=path, **env)


@pytest.fixture(scope="module")
def without_compiler(tmp_path_factory):
    """A folder that holds the package as it installs where no compiler is."""
    folder = tmp_path_factory.mktemp("wheel")
    done = build(folder, **NO_COMPILER)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def python(site, code):
    packages = sysconfig.get_paths()["purelib"]
    return run(sys.executable, "-S", "-c", code, PYTHONPATH=f"{site}{os.pathsep}{packages}")


TWO_STEPS = """
import torch, meansquare
assert not meansquare.backends()[0].live
for _ in range(2):
    p = torch.nn.Parameter(torch.ones(3))
    opt = meansquare.RMSProp([p])
    p.sum().backward()
    opt.step()
print(p.detach())
opt.explain()
"""


def test_without_a_compiler_it_works_through_torch_and_says_so_once(without_compiler):
    done = python(without_compiler, TWO_STEPS)
    assert done.returncode == 0, done.stderr
    numbers, group, line = done.stdout.splitlines()
    assert numbers == "tensor([0.9000, 0.9000, 0.9000])"
    assert group.startswith("group 0: rmsprop_outside, 1 tensors of float32")
    assert re.match(r"  reference: 1 tensors .* \(C\+\+ kernels not compiled", line)
    assert done.stderr.count("RuntimeWarning: meansquare: C++ kernels not compiled") == 1


def test_without_a_compiler_the_doctor_says_why(without_compiler):
    done = python(without_compiler, "import sys; sys.argv = ['meansquare', 'doctor'];"
                  "from meansquare.lab.cli import main; main()")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "not compiled" in done.stdout


def test_a_build_that_requires_the_kernels_fails_without_a_compiler(tmp_path):
    done = build(tmp_path, MEANSQUARE_REQUIRE_NATIVE="1", **NO_COMPILER)
    assert done.returncode != 0
    assert not list(tmp_path.glob("*.whl"))


def test_the_wheel_carries_everything_but_tests(without_compiler):
    names = {str(path.relative_to(without_compiler)) for path in without_compiler.rglob("*")}
    sources = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src/meansquare").rglob("*")
        if path.suffix in (".py", ".pyi", ".j2", ".typed")
    }
    assert sources <= names
    assert not any(part.startswith("test") for name in names for part in Path(name).parts)


def test_backends_tell_what_is_live_and_why_the_others_are_not():
    told = {backend.name: backend for backend in meansquare.backends()}
    assert told["cpu"].live == (cpu.native is not None)
    assert told["reference"].live
    assert not told["gpu"].live
    assert "Triton" in told["gpu"].detail


def test_kernels_compiled_from_other_rules_are_not_used(monkeypatch):
    class Stale:
        @staticmethod
        def rule_keys():
            return ["rmsprop_of_yesterday"]

    monkeypatch.setitem(sys.modules, "meansquare._native", Stale)
    monkeypatch.setattr(meansquare, "_native", Stale, raising=False)
    native, detail = cpu._load()
    assert native is None
    assert "compiled from other rules" in detail
