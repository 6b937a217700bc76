"""Each room imports only from those before it, and the public surface is what __all__ says."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import meansquare

PACKAGE = Path(meansquare.__file__).parent
ROOMS = (
    "settings", "spec", "trace", "rules", "hyper", "family", "maths", "dialects", "recipes",
    "printer", "parts", "state", "checkpoint", "kernels", "guarding", "optimizers", "diagnosis",
    "watching", "step_size", "lab",
)  # fmt: skip


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        parts = [name.split(".") for name in modules]
        names |= {part[1] for part in parts if part[0] == "meansquare" and len(part) > 1}
    return names - {"_native"}


def test_each_room_imports_only_from_its_left():
    for path in PACKAGE.rglob("*.py"):
        room = room_of(path)
        if room == "__init__":
            continue
        allowed = ROOMS[: ROOMS.index(room) + 1]
        assert imported_rooms(path) <= set(allowed), path


def test_importing_the_package_loads_neither_triton_nor_the_lab():
    code = "import sys, meansquare; print([m for m in sys.modules if m[:14] == 'meansquare.lab'])"
    code += "; print('triton' in sys.modules or 'meansquare.kernels.rules_gpu' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["[]", "False"]


def test_importing_the_package_loads_no_torch_until_a_name_is_asked_for():
    code = "import sys, meansquare; print('torch' in sys.modules)"
    code += "; from meansquare import RMSProp; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "True"]


def test_importing_the_package_loads_neither_torchs_compiler_nor_its_distributed_tensors():
    code = "import sys, torch; before = {*sys.modules}; import meansquare, meansquare.optimizers"
    code += "; print([m for m in {*sys.modules} - before if m.startswith('torch')])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["[]"]


def test_the_public_names_are_all_there_and_no_others():
    for name in meansquare.__all__:
        assert getattr(meansquare, name) is getattr(meansquare, name)
    assert dir(meansquare) == sorted(meansquare.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'RMSprop'"):
        meansquare.RMSprop  # noqa: B018
    assert len(meansquare.__all__) <= 17


def test_the_example_of_the_readme_runs(capsys):
    text = (PACKAGE.parents[1] / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    assert "rmsprop_outside_centered_heavy_ball, 2 tensors of float32" in capsys.readouterr().out
