"""How long the report of about 500 runs takes to be made, to open, and to draw all its charts.

python benchmarks/report.py
"""

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import synthetic
from playwright.sync_api import sync_playwright

from meansquare.lab.compare import summarize
from meansquare.lab.report import render

TASKS = synthetic.NAMES[:6]
REPEATS = 7
QUIET = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
# From the request of the page to the first frame after its script has drawn what is on the screen.
OPENED = """() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(
  () => done(performance.now()))))"""
ALL_CHARTS = """() => { const began = performance.now(); dispatchEvent(new Event("beforeprint"));
  return [performance.now() - began, document.querySelectorAll(".plot svg").length]; }"""


def main() -> None:
    summary = summarize(synthetic.folder(TASKS, periods=100))
    began = time.perf_counter()
    html = render(summary, "meansquare compare", {name: [] for name in TASKS})
    made = time.perf_counter() - began
    print(f"{summary.runs} runs: page made in {made:.2f} s, {len(html) / 1e6:.2f} MB")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        page.write_text(html)
        measure(page)


def measure(file: Path) -> None:
    """Print the median, and the range, of opening a page in a fresh tab."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        opened, charts = [], []
        for _ in range(REPEATS):
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.goto(file.as_uri(), wait_until="commit")
            page.wait_for_function("performance.getEntriesByName('drawn').length")
            opened.append(page.evaluate(OPENED))
            charts.append(page.evaluate(ALL_CHARTS))
            page.close()
        browser.close()
    print(f"opened and drawn in {told(opened)}")
    print(f"all {charts[0][1]} charts drawn in {told([time for time, _ in charts])} more")


def told(times: list[float]) -> str:
    return f"{statistics.median(times):.0f} ms ({min(times):.0f} to {max(times):.0f})"


if __name__ == "__main__":
    sys.exit(main())
