"""Make the pictures of docs/watch.md, docs/guard.md and docs/learning-rate.md from real runs.

python tools/pictures.py    needs chromium; a minute on two cores
"""

import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
IMAGES, EXAMPLES = ROOT / "docs" / "images", ROOT / "examples"
MEANSQUARE = [sys.executable, "-m", "meansquare.lab.cli"]


def atlas() -> None:
    """The first screens of the page of the watched character RNN."""
    with tempfile.TemporaryDirectory() as folder:
        example = EXAMPLES / "watch_a_char_rnn.py"
        subprocess.run([sys.executable, str(example), folder], check=True)
        subprocess.run([*MEANSQUARE, "report", f"{folder}/watch.jsonl"], check=True)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            page = browser.new_page(viewport={"width": 1000, "height": 1560})
            page.goto((Path(folder) / "watch.html").as_uri())
            page.screenshot(path=IMAGES / "atlas.png")
            browser.close()


def guard() -> None:
    """How the plain and the guarded training of the example went."""
    ran = runpy.run_path(str(EXAMPLES / "survive_a_bad_batch.py"))
    figure, axes = plt.subplots(figsize=(7.2, 2.8))
    for name, color in (("plain", "#d55e00"), ("guarded", "#0072b2")):
        steps = range(20, 20 * len(ran[name]) + 1, 20)
        axes.plot(steps, ran[name], color=color, label=name, linewidth=1.8)
    for step, what in ((300, "NaN"), (450, "garbage"), (600, "rate x30")):
        axes.axvline(step, color="#888888", linestyle=":", linewidth=1)
        axes.text(step + 5, 4, what, color="#555555", fontsize=8)
    axes.set(xlabel="step", ylabel="held-out digits right, %", ylim=(0, 100))
    axes.legend(frameon=False, loc="lower left")
    figure.tight_layout()
    figure.savefig(IMAGES / "guard.png", dpi=110)


def ranges() -> None:
    """The range tests on digits."""
    place = str(IMAGES / "digits-range.png")
    subprocess.run([*MEANSQUARE, "lr", "digits", "--picture", place], check=True)


if __name__ == "__main__":
    atlas()
    guard()
    ranges()
