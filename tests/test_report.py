"""The page as a browser shows it: whole, self-contained, usable by pointer, keyboard and reader."""

import csv
import io
import itertools
import json
import shutil
import struct
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zlib
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from benchmarks import synthetic
from meansquare.lab import ground, looks, overall, page_data, record, report
from meansquare.lab.compare import summarize
from meansquare.lab.wording import missing

CHROMIUM = shutil.which("chromium")
AXE = Path(__file__).parents[1] / ".venv" / "axe" / "package" / "axe.min.js"
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
]
TASKS = ("digits", "char-lstm", "co2", "sea", "cartpole-a2c", "wine", "rosenbrock", "ravine")
COMMAND = "meansquare compare digits co2 --optimizers rmsprop,sgd"
KINDS = ("curves", "rates", "results")
DESK, PHONE = (1280, 800), (390, 844)


@pytest.fixture(scope="module")
def summary():
    return summarize(synthetic.folder(TASKS, seeds=5))


@pytest.fixture(scope="module")
def written(summary, tmp_path_factory):
    """The folder of a report over a bowl for a surface, with the pictures of two tasks."""
    out = tmp_path_factory.mktemp("report")
    bowl = ground.grounded(lambda x, y: x * x + 3 * y * y, (-2, 3, -2, 3), (0.0, 0.0))
    draw = report.draw
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_data, "ground_of", lambda name: bowl if name == "rosenbrock" else None)
        patch.setattr(report, "draw", lambda t: draw(t) if t.facts["name"] in TASKS[:2] else [])
        assert report.write(summary, COMMAND, out) == out / "report.html"
    return out


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield running
        running.close()


@pytest.fixture
def visit(browser, written):
    """Opens the page; `said` and `asked` are what it printed and what it requested."""
    opened = []

    def open_page(size=DESK, view="", file="report.html", **options):
        width, height = size
        page = browser.new_page(viewport={"width": width, "height": height}, **options)
        page.said, page.asked = [], []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("request", lambda asked: page.asked.append(asked.url))
        page.goto((written / file).as_uri() + view, wait_until="load")
        opened.append(page)
        return page

    yield open_page
    said = [page.said for page in opened]
    for page in opened:
        page.close()
    assert said == [[] for _ in opened]


def chart(page, name):
    """A chart by its id, on the screen and drawn."""
    card = page.locator(f'[id="chart-{name}"]')
    card.scroll_into_view_if_needed()
    card.locator("svg .axes").first.wait_for()
    return card


def drawn(card):
    return card.locator(".plot svg").first.inner_html()


def test_the_page_asks_for_nothing_but_itself(visit, written):
    page = visit()
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.wait_for_timeout(100)
    asked = [url for url in page.asked if not url.startswith("data:")]
    assert asked == [(written / "report.html").as_uri()]


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_the_first_screen_holds_the_answer_and_all_standings(size, visit):
    page = visit(size)
    for part in ("#headline", "#details", "#standings"):
        box = page.locator(part).bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= size[1]


@pytest.mark.parametrize("width", [320, 768])
def test_nothing_is_wider_than_the_screen(width, visit):
    page = visit((width, 800))
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_the_page_shows_the_verdicts_of_the_summary(visit, written):
    tasks = json.loads((written / "summary.json").read_text())["tasks"]
    page = visit()
    for number, task in enumerate(tasks):
        rows = page.locator(f"#t{number} .arms tbody tr")
        names, verdicts = (rows.locator(part).all_text_contents() for part in ("th", ".verdict"))
        assert dict(zip(map(str.strip, names), verdicts, strict=True)) == {
            arm["label"]: arm["verdict"] for arm in task["arms"]
        }


def test_a_tie_of_all_is_called_a_tie_everywhere(visit):
    page = visit(view="#task=wine")
    assert page.locator("#headline").inner_text().startswith("A tie: ")
    wine = TASKS.index("wine")
    verdicts = page.locator(f"#t{wine} .arms .verdict").all_inner_texts()
    assert verdicts == ["best", *5 * ["tie"]]
    assert "tie with it" in page.locator(f"#t{wine} .finding").inner_text()


def said_answer(page):
    return page.locator("#headline").text_content(), page.locator("#details p").all_text_contents()


@pytest.mark.parametrize("kinds", [(), ("cnn",), ("cnn", "rnn", "forecast"), ("surface",)])
def test_script_and_python_give_the_same_answer(kinds, visit, summary):
    page = visit(view="#" + "&".join(f"kind={kind}" for kind in kinds))
    chosen = [task for task in summary.tasks if not kinds or task.facts["kind"] in kinds]
    expected = overall.answer(chosen)
    assert said_answer(page) == (expected.headline, list(expected.details))
    counts = page.locator("#standings .count").all_text_contents()
    assert counts == [f"{place.on_top} of {expected.decided}" for place in expected.places]


def test_without_a_script_the_answer_the_verdicts_and_the_method_are_there(visit, summary):
    page = visit(java_script_enabled=False)
    assert said_answer(page)[0] == overall.answer(summary.tasks).headline
    assert page.locator(".arms .verdict").count() == 6 * len(TASKS)
    assert page.locator("noscript").is_visible()
    assert "paired" in page.locator(".kicker").inner_text()


def test_a_kind_filters_the_tasks_and_the_answer(visit):
    page = visit()
    before = page.locator("#headline").inner_text()
    page.get_by_role("button", name="streams").click()
    assert page.locator("section.task:visible").count() == 1
    assert page.locator(".overview tbody tr:visible").count() == 1
    assert page.locator("#headline").inner_text() != before
    page.get_by_role("button", name="Show everything").click()
    assert page.locator("section.task:visible").count() == len(TASKS)
    assert page.locator("#headline").inner_text() == before


def test_a_task_is_picked_from_the_list(visit):
    page = visit()
    page.locator("details.menu summary").click()
    page.get_by_role("checkbox", name="Co2, made up").check()
    assert page.locator("section.task:visible").count() == 1
    page.keyboard.press("Escape")
    assert not page.locator("fieldset").is_visible()


def test_an_optimizer_is_switched_off_in_charts_and_tables(visit):
    page = visit()
    card = chart(page, "0.curves")
    assert card.locator(".line.o5").count() == 1
    page.locator('[data-toggle="5"]').click()
    assert card.locator(".line.o5").count() == 0
    assert page.locator('#t0 tr[data-arm="5"]').is_hidden()
    page.locator('[data-toggle="5"]').click()
    assert card.locator(".line.o5").count() == 1


CARDS = ("curves", "search", "results", "reached")


def test_zoom_changes_a_chart_and_reset_brings_it_back(visit):
    page = visit()
    for name in (*(f"0.{kind}" for kind in CARDS), "all.profile", "all.rates"):
        card = chart(page, name)
        whole = drawn(card)
        assert card.locator('[data-zoom="reset"]').is_disabled()
        card.locator('[data-zoom="in"]').click()
        assert drawn(card) != whole, name
        card.locator('[data-zoom="reset"]').click()
        assert drawn(card) == whole, name


def test_dragging_zooms_into_the_dragged_range(visit):
    page = visit()
    card = chart(page, "0.curves")
    box, whole = card.locator(".plot").bounding_box(), drawn(card)
    page.mouse.move(box["x"] + 200, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 320, box["y"] + 120, steps=4)
    assert card.locator(".brush").count() == 1
    page.mouse.up()
    assert drawn(card) != whole
    assert "zoom=0.curves" in page.evaluate("location.hash")


def test_the_wheel_zooms_with_ctrl_only(visit):
    page = visit()
    card = chart(page, "0.curves")
    card.locator(".plot").hover()
    whole = drawn(card)
    page.mouse.wheel(0, 10)
    assert "zoom" not in page.evaluate("location.hash")
    card.locator(".plot").hover()
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    page.wait_for_function("location.hash.includes('zoom')")
    assert drawn(card) != whole


def test_the_tooltip_tells_the_numbers_of_the_records(visit, summary):
    page = visit()
    card = chart(page, "0.results")
    card.locator(".plot").focus()
    page.keyboard.press("Home")
    best = summary.tasks[0].ranked[0]
    assert best.label in card.locator(".tip strong").inner_text()
    assert f"{best.mean:#.4g} [{best.interval.low:#.4g}, {best.interval.high:#.4g}]" in (
        card.locator(".tip").inner_text()
    )


def test_the_pointer_finds_what_is_below_it(visit):
    page = visit()
    card = chart(page, "0.curves")
    box = card.locator(".plot").bounding_box()
    texts = []
    for x in (100, 400):
        page.mouse.move(box["x"] + x, box["y"] + 120)
        texts.append(card.locator(".tip").inner_text())
    assert texts[0] != texts[1]
    page.mouse.move(5, 5)
    assert card.locator(".tip").is_hidden()


def test_the_keyboard_reads_zooms_and_leaves_a_chart(visit):
    page = visit()
    card = chart(page, "0.curves")
    card.locator(".plot").focus()
    whole = drawn(card)
    page.keyboard.press("ArrowRight")
    first = page.locator("#said").text_content()
    page.keyboard.press("ArrowRight")
    assert first != page.locator("#said").text_content() != ""
    page.keyboard.press("Escape")
    assert card.locator(".tip").is_hidden()
    page.keyboard.press("+")
    assert drawn(card) != whole
    page.keyboard.press("0")
    assert drawn(card) == whole


def test_every_control_can_be_reached_by_tab_with_a_visible_focus(visit):
    page = visit(view="#task=digits")
    chart(page, "0.curves")
    page.evaluate("scrollTo(0, 0)")
    wanted = {"theme", "everything", "RMSProp", "plot", "train"}
    reached, outlines = set(), set()
    for _ in range(90):
        page.keyboard.press("Tab")
        words, outline = page.evaluate(
            """[[document.activeElement.id, document.activeElement.textContent.trim(),
            document.activeElement.className, document.activeElement.dataset.view || ''],
            getComputedStyle(document.activeElement).outlineStyle]"""
        )
        reached |= set(words)
        if page.evaluate("document.activeElement !== document.body"):
            outlines.add(outline)
    assert wanted <= reached
    assert outlines <= {"solid", "auto"}


def test_curves_run_along_steps_or_seconds_when_asked(visit):
    page = visit()
    card = chart(page, "0.curves")
    seen = set()
    for axis in ("epochs", "steps", "seconds"):
        card.get_by_role("button", name=axis, exact=True).click()
        seen.add(card.locator(".axes .title").first.text_content())
    assert seen == {"epoch →", "steps →", "seconds of training →"}


def test_drifts_are_marked_on_streams_only(visit):
    page = visit()
    assert chart(page, f"{TASKS.index('sea')}.curves").locator(".event").count() == 2
    assert chart(page, "0.curves").locator(".event").count() == 0


def test_every_view_of_every_chart_draws(visit):
    page = visit()
    assert page.locator("[data-view]").count() > 40
    page.evaluate("document.querySelectorAll('[data-view]').forEach((view) => view.click())")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    broken = page.locator(".plot svg").evaluate_all(
        "all => all.filter(svg => /NaN|Infinity|undefined/.test(svg.outerHTML)).length"
    )
    assert broken == 0


def test_every_chart_shows_its_numbers_as_a_table(visit):
    page = visit()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.evaluate("document.querySelectorAll('.card details').forEach((d) => { d.open = true; })")
    page.wait_for_timeout(100)
    rows = page.locator(".card details").evaluate_all(
        "all => all.filter(d => d.closest('.card').querySelector('.plot svg'))"
        ".map(d => d.querySelectorAll('tbody tr').length)"
    )
    assert len(rows) > 4 * len(TASKS)
    assert min(rows) > 0


def test_ways_over_a_surface_play_and_pause(visit):
    page = visit()
    card = page.locator(f'[id="chart-{TASKS.index("rosenbrock")}.way"]')
    card.scroll_into_view_if_needed()
    card.locator(".contour").first.wait_for(state="attached")
    head = card.locator(".head.o0")
    ended = head.get_attribute("transform")
    card.get_by_role("button", name="Play").click()
    page.wait_for_function("document.querySelector('.player input').value > 10")
    card.get_by_role("button", name="Pause").click()
    paused = head.get_attribute("transform")
    page.wait_for_timeout(150)
    assert paused == head.get_attribute("transform") != ended
    card.locator("input").focus()
    page.keyboard.press("End")
    assert head.get_attribute("transform") == ended


def test_who_asks_for_no_motion_sees_none(visit):
    page = visit(reduced_motion="reduce")
    card = page.locator(f'[id="chart-{TASKS.index("rosenbrock")}.way"]')
    card.scroll_into_view_if_needed()
    card.locator(".contour").first.wait_for(state="attached")
    ended = card.locator(".head.o0").get_attribute("transform")
    card.get_by_role("button", name="Play").click()
    page.wait_for_timeout(150)
    assert card.locator(".head.o0").get_attribute("transform") == ended


def test_the_address_restores_a_view(visit):
    page = visit()
    page.get_by_role("button", name="images").click()
    page.locator('[data-toggle="1"]').click()
    card = chart(page, "0.curves")
    card.get_by_role("button", name="Training loss").click()
    card.get_by_role("button", name="steps", exact=True).click()
    card.locator('[data-zoom="in"]').click()
    page.locator("#theme").click()
    again = visit(view=page.evaluate("location.hash"))
    assert again.locator("#headline").inner_text() == page.locator("#headline").inner_text()
    assert drawn(chart(again, "0.curves")) == drawn(chart(page, "0.curves"))
    assert again.evaluate("document.documentElement.dataset.theme") == "dark"


BROKEN = ("#zoom=0.curves~x~3", "#view=0.curves~no", "#x=%00&kind=no", "#=")


@pytest.mark.parametrize("view", BROKEN)
def test_a_damaged_address_shows_a_page_all_the_same(view, visit):
    assert visit(view=view).locator("#headline").inner_text() != ""


def test_the_theme_follows_the_system_and_the_switch(visit):
    grounds = []
    for scheme in ("light", "dark"):
        page = visit(color_scheme=scheme)
        for _ in range(2):
            grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            page.locator("#theme").click()
    light, dark = grounds[:2]
    assert grounds == [light, dark, dark, light]
    assert light != dark


@pytest.mark.parametrize(("size", "scheme"), [(DESK, "light"), (DESK, "dark"), (PHONE, "light")])
def test_axe_finds_no_serious_barrier(size, scheme, visit):
    if not AXE.exists():
        pytest.skip(f"{AXE} is missing: make .venv/axe, which needs npm")
    page = visit(size, color_scheme=scheme, view="#task=digits&task=rosenbrock")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.evaluate("document.querySelectorAll('.card details').forEach((d) => { d.open = true; })")
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run().then((result) => result.violations)")
    grave = [
        (one["id"], node["target"], node["failureSummary"])
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
    assert grave == []


def test_text_cannot_end_the_script_or_become_markup(summary, tmp_path, browser):
    hostile = "</script><script>document.title='owned'</script>\u2028<!--"
    task = summary.tasks[0]
    facts = {**task.facts, "title": hostile, "metric": hostile}
    changed = type(task)(facts, task.arms, task.target, task.lost_to_momentum)
    edited = type(summary)(**{**vars(summary), "tasks": (changed,)})
    (tmp_path / "page.html").write_text(report.render(edited, hostile, {"digits": []}))
    page = browser.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((tmp_path / "page.html").as_uri())
    assert page.locator("#t0 h2").inner_text().startswith("</script>")
    assert (errors, page.title()) == ([], "Which optimizer? 6 on 1 task")
    page.close()


@pytest.mark.parametrize("search", ["lr", "all"])
def test_an_unfinished_folder_gives_a_page_that_says_what_is_missing(search, tmp_path, browser):
    whole = synthetic.folder(("digits", "sea"), ("rmsprop", "momentum"), 3, 3, search)
    page = browser.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    for kept in (0, 5, len(whole.records) - 1, len(whole.records)):
        cut = type(whole)(**{**vars(whole), "records": whole.records[:kept]})
        summary = summarize(cut)
        file = tmp_path / f"{kept}.html"
        file.write_text(report.render(summary, COMMAND, {"digits": [], "sea": []}))
        page.goto(file.as_uri())
        lines = page.locator("#missing ~ ul li").all_inner_texts()
        assert lines == [f"{line}." for line in missing(summary)]
        assert bool(lines) == (kept < len(whole.records))
    assert errors == []
    page.close()


def test_a_search_that_was_too_small_is_said_to_be(summary, tmp_path):
    task = summary.tasks[0]
    changed = type(task)(task.facts, task.arms, task.target, True)
    edited = type(summary)(**{**vars(summary), "tasks": (changed,)})
    assert "The search was too small" in report.render(edited, COMMAND, {"digits": []})


def test_an_edge_and_a_divergence_are_flagged(visit):
    page = visit()
    flags = page.locator(".overview tbody tr").nth(TASKS.index("co2")).locator(".flag")
    assert flags.all_text_contents() == ["at the edge: AdaGrad"]
    lost = page.locator(f"#t{TASKS.index('char-lstm')} .warning").all_text_contents()
    assert [text for text in lost if "Momentum (" in text] != []


@pytest.mark.parametrize("name", [f"{task}-{kind}" for task in TASKS[:2] for kind in KINDS])
def test_every_figure_is_also_a_png_and_an_svg_file(name, written):
    root = ElementTree.parse(written / "figures" / f"{name}.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert min(png_size(written / "figures" / f"{name}.png")) > 400


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


def rows_of(written, name):
    return list(csv.DictReader(io.StringIO((written / "tables" / name).read_text())))


def test_the_tables_hold_every_run_arm_and_period(written, summary):
    arms = [arm for task in summary.tasks for arm in task.arms]
    assert len(rows_of(written, "runs.csv")) == summary.runs
    assert [row["verdict"] for row in rows_of(written, "arms.csv")] == [a.verdict for a in arms]
    means = [row["mean"] and float(row["mean"]) for row in rows_of(written, "arms.csv")]
    assert means == ["" if arm.mean is None else arm.mean for arm in arms]
    for row in rows_of(written, "arms.csv"):
        steps, samples = row["steps_to_target"], row["samples_to_target"]
        size = next(t.facts["batch_size"] for t in summary.tasks if t.facts["name"] == row["task"])
        assert samples == (steps and str(float(steps) * size))
    periods = sum(len(curve.train_loss) for arm in arms for curve in arm.curves)
    assert len(rows_of(written, "curves.csv")) == periods


def test_figures_of_any_task_name_stay_in_their_folder_and_apart():
    from meansquare.lab.figures import file_stem

    stems = [file_stem(name) for name in ("digits", "images:../a b", "images:../a/b", "text:x")]
    assert len(set(stems)) == 4
    assert all("/" not in stem and not stem.startswith(".") for stem in stems)


@pytest.mark.parametrize(("count", "most"), [(0, 200), (1, 200), (200, 200), (201, 200), (9999, 7)])
def test_thinning_keeps_the_ends_and_the_order(count, most):
    at = page_data.thinned(count, most)
    assert len(at) == min(count, most)
    assert at == sorted(set(at))
    assert at[:1] + at[-1:] == ([0, count - 1] if count else [])


def test_a_page_of_500_runs_is_light():
    made = summarize(synthetic.folder(TASKS, seeds=1, periods=300))
    assert made.runs > 400
    assert len(report.render(made, COMMAND, {name: [] for name in TASKS})) < 1_500_000


def test_a_sign_test_knows_what_chance_can_do():
    assert overall.sign_test(0, 5) == 2 / 32 > overall.LEVEL
    assert overall.sign_test(6, 0) == 2 / 64 < overall.LEVEL
    assert overall.sign_test(3, 3) == 1.0


# Machado, Oliveira and Fernandes 2009, table 1 (severity 1): of linear RGB, for each blindness.
EYES = {
    "usual": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
               [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
               [-0.01182, 0.04294, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
               [0.004733, 0.691367, 0.3039]],
}  # fmt: skip


def light(color: str) -> np.ndarray:
    """Linear RGB."""
    parts = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """As WCAG 2 defines it."""
    dark, bright = sorted(light(color) @ [0.2126, 0.7152, 0.0722] for color in (one, other))
    return float((bright + 0.05) / (dark + 0.05))


def lab(linear: np.ndarray) -> np.ndarray:
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    share = (to_xyz @ np.clip(linear, 0, 1)) / [0.9505, 1, 1.089]
    x, y, z = np.where(share > 0.008856, np.cbrt(share), 7.787 * share + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("theme", ["color", "on_dark"])
def test_colours_stand_out_from_their_ground(theme):
    behind = looks.GROUND if theme == "color" else looks.DARK_GROUND
    every = [*looks.LOOKS.values(), *looks.OTHERS]
    assert min(contrast(getattr(look, theme), behind) for look in every) >= 3


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("theme", ["color", "on_dark"])
def test_colours_stay_apart_for_colour_blind_eyes(theme, eyes):
    seen = [lab(EYES[eyes] @ light(getattr(look, theme))) for look in looks.LOOKS.values()]
    # 20 is about nine times what is just noticeable.
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) >= 20


def test_markers_and_dashes_of_the_usual_optimizers_all_differ():
    for part in ("marker", "dash"):
        assert len({getattr(look, part) for look in looks.LOOKS.values()}) == len(looks.LOOKS)


@pytest.mark.parametrize("arguments", [("report",), ("claims", "--judge", "--out")])
def test_records_are_read_and_reported_where_there_is_no_torch(arguments, finished, tmp_path):
    shutil.copy(finished / record.FILE_NAME, tmp_path)
    code = "import sys; sys.modules['torch'] = None; from meansquare.lab.cli import main; "
    code += f"raise SystemExit(main({[*arguments, str(tmp_path)]!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
