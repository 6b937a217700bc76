"""The page as a browser shows it: whole, self-contained, readable on a desk and on a phone."""

import json
import shutil
import struct
import xml.etree.ElementTree as ElementTree
import zlib
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from meansquare.lab import record
from meansquare.lab.campaign import study_of

CHROMIUM = shutil.which("chromium")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
]
KINDS = ("loss", "rates", "quality", "time")
FIGURES = [f"{task}-{kind}" for task in ("digits", "co2") for kind in KINDS]
# The height of a letter on the screen: the font's size, scaled as the picture is.
TEXT_SIZES = """[...document.querySelectorAll('figure svg text')].map(text => {
  const m = text.getScreenCTM();
  return parseFloat(getComputedStyle(text).fontSize) * Math.hypot(m.a, m.b);
})"""


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield running
        running.close()


@pytest.fixture(params=[1280, 375], ids=["desk", "phone"])
def page(request, browser, finished):
    """The report, opened; `said` and `asked` are what it printed and what it requested."""
    page = browser.new_page(viewport={"width": request.param, "height": 800})
    page.said, page.asked = [], []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("request", lambda asked: page.asked.append(asked.url))
    page.goto((finished / "report.html").as_uri(), wait_until="networkidle")
    yield page
    page.close()


def test_the_page_prints_no_error_and_asks_for_nothing_but_itself(page, finished):
    assert page.said == []
    assert [url for url in page.asked if not url.startswith("data:")] == [
        (finished / "report.html").as_uri()
    ]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_visible(name, page):
    picture = page.locator(f"#figure-{name} svg")
    box = picture.bounding_box()
    assert picture.is_visible()
    assert min(box["width"], box["height"]) > 200


def test_nothing_is_wider_than_the_screen(page):
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_the_letters_of_the_figures_are_at_least_8_pixels_high(page):
    sizes = page.evaluate(TEXT_SIZES)
    assert len(sizes) > 8 * len(FIGURES)
    assert min(sizes) >= 8


def test_the_page_shows_the_verdicts_of_the_summary(page, finished):
    tasks = json.loads((finished / "summary.json").read_text())["tasks"]
    expected = {(arm["label"], arm["verdict"]) for task in tasks for arm in task["arms"]}
    rows = page.locator("tbody tr")
    shown = {
        (row.locator("th").inner_text().strip(), row.locator(".verdict").inner_text())
        for row in rows.all()
    }
    assert shown == expected


def test_the_page_says_how_it_was_made(page, finished):
    folder = record.load(finished)
    text = page.locator("body").inner_text()
    versions = folder.records[0].made_by["versions"]
    facts = [study_of(folder).command, "Seeds 1 to 2", "The same 2 learning rates"]
    facts += [f"{name} {version}" for name, version in versions.items() if version]
    assert [fact for fact in facts if fact not in text] == []


def test_a_tie_is_called_a_tie_on_the_page(finished, tmp_path, browser):
    page = browser.new_page()
    page.goto((tied(finished, tmp_path) / "report.html").as_uri())
    assert page.locator("#digits ~ table .verdict").all_inner_texts() == ["best", *4 * ["tie"]]
    assert "tie with it" in page.locator("#digits ~ .finding").inner_text()
    page.close()


def tied(finished: Path, out: Path) -> Path:
    """The same runs, had every final run on digits scored the same."""
    from meansquare.lab.cli import main

    header, *lines = (finished / record.FILE_NAME).read_text().splitlines()
    runs = [json.loads(line) for line in lines]
    for made in runs:
        if made["phase"] == "final" and made["task"] == "digits":
            made |= {"status": "ok", "diverged_at": None, "test_metric": 50.0}
    content = "\n".join([header, *map(json.dumps, runs)]) + "\n"
    (out / record.FILE_NAME).write_text(content)
    assert main(["report", str(out)]) == 0
    return out


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_also_a_png_and_an_svg_file(name, finished):
    root = ElementTree.parse(finished / "figures" / f"{name}.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert min(png_size(finished / "figures" / f"{name}.png")) > 400


def png_size(path: Path) -> tuple[int, int]:
    """Width and height; every chunk's checksum has to fit."""
    content, at, kinds = path.read_bytes(), 8, []
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        body = content[at + 4 : at + 8 + length]
        assert zlib.crc32(body) == struct.unpack_from(">I", content, at + 8 + length)[0]
        kinds.append(body[:4])
        at += 12 + length
    assert (kinds[0], kinds[-1]) == (b"IHDR", b"IEND")
    return struct.unpack_from(">II", content, 16)
