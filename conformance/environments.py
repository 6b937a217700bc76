"""The environments that the frameworks are installed in, beside each other where they can be."""

import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PINNED = (3, 11)  # the Python of the pinned versions; others take what is newest


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and what is installed there: one call of pip each."""

    name: str
    calls: tuple[tuple[str, ...], ...]

    def python(self, folder: Path) -> Path:
        return folder / self.name / "bin" / "python"

    def install(self, folder: Path) -> str:
        """Make it in this folder, if it is not there; empty, or what went wrong."""
        done = folder / self.name / "done"
        wanted = repr(self.calls) + self._pins.read_text()
        if done.exists() and done.read_text() == wanted:
            return ""
        venv.create(folder / self.name, with_pip=True, clear=True)
        wrong = [said for call in self.calls if (said := self._pip(folder, call))]
        if not wrong:
            done.write_text(wanted)
        return "; ".join(wrong)

    @property
    def _pins(self) -> Path:
        return HERE / f"constraints-{self.name}.txt"

    def _pip(self, folder: Path, call: tuple[str, ...]) -> str:
        python = str(self.python(folder))
        command = [python, "-m", "pip", "--disable-pip-version-check", "install", "-q"]
        command += ["-c", str(self._pins)] if sys.version_info[:2] == PINNED else []
        command += call
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not done.returncode:
            return ""
        if len(call) > 1 and not call[0].startswith("-"):
            # One that cannot be had keeps the others from being installed: one by one, then.
            return "; ".join(filter(None, (self._pip(folder, (one,)) for one in call)))
        errors = [line for line in done.stderr.splitlines() if "ERROR" in line]
        return f"pip install {' '.join(call)}: {' '.join(errors[-1:]) or 'failed'}"


ENVIRONMENTS = (
    Environment(
        "main",
        (
            (
                *("torch==2.13.0", "tensorflow-cpu", "keras", "jax", "optax", "timm", "river"),
                *("stable-baselines3", "bitsandbytes", "heavyball", "mlx[cpu]", "dm-sonnet"),
                "prodigyopt",
            ),
            ("--no-deps", "tf_keras"),  # it would bring tensorflow beside tensorflow-cpu
        ),
    ),
    # Both need the NumPy of their time.
    Environment(
        "legacy",
        (
            ("numpy", "setuptools==65.5.0", "wheel==0.48.0"),
            ("--no-build-isolation", "chainer"),
            ("mxnet",),
        ),
    ),
    Environment("paddle", (("paddlepaddle",),)),  # it pins an older opt-einsum than heavyball wants
)
