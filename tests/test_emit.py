"""The generated kernels are what rules.py prints, and a change of rules.py reaches all of them."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GENERATED = {"csrc/rules.gen.h", "src/meansquare/kernels/rules_gpu.py"}


def run(*command, cwd=ROOT, **env):
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
    )


def isolated(site, *command, cwd=ROOT):
    """Run Python with the package in `site`, whatever is installed in this environment."""
    packages = sysconfig.get_paths()["purelib"]
    path = f"{site}{os.pathsep}{packages}"
    return run(sys.executable, "-S", *command, cwd=cwd, PYTHONPATH=path)


def emit(root, *options):
    return isolated(root / "src", "tools/emit.py", *options, cwd=root)


def texts(root):
    files = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in str(path))
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """A copy of the project in which one operator of rules.py is another."""
    root = tmp_path_factory.mktemp("changed")
    ignore = shutil.ignore_patterns("*.so", "__pycache__")
    for name in ("src", "csrc", "tools", "tests"):
        shutil.copytree(ROOT / name, root / name, ignore=ignore)
    for name in ("pyproject.toml", "CMakeLists.txt", "README.md", "LICENSE", "docs/dialects.md"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    rules = root / "src/meansquare/rules.py"
    text = rules.read_text()
    line = "return beta * or_zero(v, h.tiny) + (1 - beta) * square(g, h.least)"
    assert text.count(line) == 1
    rules.write_text(text.replace(line, line.replace("tiny) +", "tiny) -")))
    return root


@pytest.fixture(scope="module")
def rebuilt(changed):
    """Where the changed project is installed, as `pip install .` does it, after `make emit`."""
    assert emit(changed).returncode == 0
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    install = ("pip", "install", "-q", "--no-build-isolation", "--no-deps", "--target")
    done = run(
        sys.executable, "-m", *install, changed / "site", changed,
        PATH=path, MEANSQUARE_REQUIRE_NATIVE="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return changed / "site"


def test_the_committed_files_are_fresh():
    done = emit(ROOT, "--check")
    assert (done.returncode, done.stdout) == (0, "")


def test_a_changed_operator_fails_the_check_until_emit_rewrites_just_the_kernels(changed):
    before = emit(changed, "--check")
    assert before.returncode == 1
    assert {line.split()[1] for line in before.stdout.splitlines()} == GENERATED
    old = texts(changed)
    assert emit(changed).returncode == 0
    new = texts(changed)
    assert {name for name in new if new[name] != old.get(name)} == GENERATED
    assert emit(changed, "--check").returncode == 0


def test_after_a_rebuild_the_kernels_follow_the_changed_rule_and_torch_no_longer_agrees(rebuilt):
    pytest_ = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-c", "/dev/null")
    kernels = "test_every_rule_equals_the_oracle_on_every_instruction_set"
    oracle = isolated(rebuilt, *pytest_, ROOT / "tests/test_kernels.py", "-k", kernels)
    assert oracle.returncode == 0, oracle.stdout
    parity = isolated(rebuilt, *pytest_, ROOT / "tests/test_parity.py")
    assert parity.returncode == 1, parity.stdout
    assert "1 failed" in parity.stdout
