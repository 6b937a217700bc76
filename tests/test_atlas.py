"""The atlas: what was watched becomes one page that says first what stands out."""

import itertools
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import meansquare as command
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import sync_playwright
from test_report import AXE, CHROMIUM, DESK, PHONE, QUIET
from torch import nn

from meansquare import SGD, Guard, RMSProp, watch
from meansquare.lab import atlas, watch_file
from meansquare.lab.atlas_findings import EPS, MOST, findings, loss_spikes
from meansquare.lab.errors import LabError

USUAL = {
    "rate": [0.1, 0.2, 0.3, 0.4, 0.5], "eps_rules": 0.0, "gradient": 1e-3, "update": 2e-4,
    "relative_update": 1e-3, "precursor": 1.0, "dead": 0.0, "stale": 0.0, "nonfinite": 0,
}  # fmt: skip


def header(names):
    tensors = [{"name": name, "shape": [4, 3], "group": 0} for name in names]
    made = {"format": "meansquare-watch", "version": 1, "optimizer": "RMSProp", "every": 50}
    return {**made, "sample": 4096, "tensors": tensors, "made_by": {}}


def look(step, *tensors):
    return {
        "kind": "look", "step": step, "seconds": step / 100, "lr": [0.01],
        "tensors": [{**USUAL, **t} if isinstance(t, dict) else t for t in tensors],
    }  # fmt: skip


def event(step, **other):
    made = {"kind": "event", "step": step, "batch": step, "what": "spike in the loss"}
    return {
        **made,
        "action": "skip",
        "layers": ["a"],
        "values": {"loss": 900.0, "z": None},
        **other,
    }


def losses(first, *values):
    return {"kind": "losses", "first": first, "values": [*values]}


def written(folder, *lines, names=("a", "b")):
    path = folder / "watch.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in (header(names), *lines)))
    return path


def told(folder, *lines, names=("a", "b")):
    return [found.text for found in findings(watch_file.load(written(folder, *lines, names=names)))]


def test_a_usual_training_has_no_finding(tmp_path):
    assert told(tmp_path, look(50, {}, {}), look(100, {}, None)) == []
    assert "Nothing stands out: no layer is outside" in atlas.render(
        watch_file.load(tmp_path / "watch.jsonl")
    )


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"eps_rules": 0.83}, "eps rules 83% of the weights of b since step 150"),
        ({"precursor": 4.1}, "The spike precursor of b was 4.1 at step 200"),
        ({"dead": 0.5}, "50% of the weights of b never had a gradient up to step 200."),
        ({"stale": 0.9}, "The second moment of 90% of the weights of b is stale since step 150"),
        ({"relative_update": 0.5}, "A step changes b by 50% of its weights since step 150."),
        ({"relative_update": 1e-9}, "A step changes b by 1e-09 of its weights since"),
        ({"nonfinite": 12}, "12 numbers of b (weights, gradient or state) are not finite at"),
    ],
)  # fmt: skip
def test_what_stands_out_is_told_with_its_layer_and_step(changed, text, tmp_path):
    lines = [look(100, {}, {}), look(150, {}, changed), look(200, {}, changed)]
    (found,) = told(tmp_path, *lines)
    assert text in found


def test_the_first_steps_of_an_average_are_no_finding(tmp_path):
    assert told(tmp_path, look(50, {"precursor": 10.0}, {})) == []


def test_events_come_first_and_are_counted(tmp_path):
    found = told(
        tmp_path, look(150, {"eps_rules": 1.0}, {}), event(120), event(140),
        event(130, what="non-finite gradient", layers=[], batch="x"),
    )  # fmt: skip
    assert found[0] == "Spike in the loss in a, 2 times, first at step 120 (batch 120): skip."
    assert found[1] == "Non-finite gradient at step 130 (batch x): skip."
    assert found[2].startswith("eps rules")


def test_an_edge_above_one_is_told(tmp_path):
    edge = {"kind": "sharpness", "step": 100, "sharpness": 300.0, "limit": 200.0, "edge": 1.5}
    assert told(tmp_path, edge) == ["The sharpness was 1.5 times its limit at step 100."]


def test_a_spike_of_the_loss_is_told_with_the_precursor_before_it(tmp_path):
    usual = losses(1, *[2.0] * 151, 50.0, 2.0, None)
    found = told(tmp_path, usual, look(150, {"precursor": 4.1}, {}))
    assert found == [
        "The loss was not finite at step 154.",
        "The spike precursor of a was 4.1 at step 150, and the loss spiked at step 152.",
        "The loss spiked once, at step 152: 50, 25 times what was usual before.",
    ]


def test_losses_that_are_noisy_or_fall_have_no_spike():
    noisy = dict(enumerate((math.exp(1.5 * math.sin(i * i)) for i in range(1000)), start=1))
    assert loss_spikes(noisy) == {}
    assert loss_spikes({step: 1 / step for step in range(1, 1000)}) == {}


def test_forty_layers_alike_are_two_sentences_the_worst_first(tmp_path):
    names = [f"layer{i}" for i in range(40)]
    lines = look(150, *[{"eps_rules": 0.6 + i / 100} for i in range(40)])
    first, second = told(tmp_path, lines, names=names)
    assert first.startswith("eps rules 99% of the weights of layer39")
    assert second.endswith("The same holds for 38 more: layer37, layer36, layer35, ….")


def test_there_are_never_too_many_findings(tmp_path):
    assert len(told(tmp_path, *(event(i, what=f"kind {i}") for i in range(40)))) == MOST


@settings(derandomize=True, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1))
def test_since_when_eps_rules_is_the_last_time_it_began_to(first, second):
    names, shares = ("a",), [first, second, 0.9]
    lines = [header(names), *(look(50 * i, {"eps_rules": s}) for i, s in enumerate(shares, 1))]
    watched = watch_file.parsed(Path("x"), "".join(json.dumps(x) + "\n" for x in lines).encode())
    (found,) = findings(watched)
    since = 150 if second <= EPS.limit else 100 if first <= EPS.limit else 50
    assert f"since step {since}:" in found.text


WHOLE = "".join(
    json.dumps(line) + "\n"
    for line in (
        header(["a", "b"]), losses(1, 1.0, None, 0.5), look(50, {}, None), event(60),
        {"kind": "sharpness", "step": 70, "sharpness": 1.0, "limit": 2.0, "edge": 0.5},
        look(100, {"rate": None, "precursor": None}, {}),
    )
).encode()  # fmt: skip


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.integers(0, len(WHOLE)))
def test_a_file_that_is_cut_off_anywhere_is_read_up_to_there_or_has_no_header(end):
    if b"\n" not in WHOLE[:end]:
        with pytest.raises(LabError, match=r"w\.jsonl was not written by meansquare\.watch: "):
            watch_file.parsed(Path("w.jsonl"), WHOLE[:end])
        return
    watched = watch_file.parsed(Path("w.jsonl"), WHOLE[:end])
    assert watched.cut_off == (not WHOLE[:end].endswith(b"\n"))
    atlas.render(watched)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=0, max_size=3))
def test_a_damaged_file_is_read_or_is_one_line(place, junk):
    content = WHOLE[:place] + junk + WHOLE[place + 1 :]
    said = ""
    try:
        atlas.render(watch_file.parsed(Path("w.jsonl"), content))
    except LabError as error:
        said = str(error)
    assert "\n" not in said
    assert not said or "w.jsonl" in said


NUMBER = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**9), 10**9)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 2**53 - 1), NUMBER, NUMBER), max_size=5))
def test_any_numbers_make_a_page_without_a_nan(rows):
    lines = [
        one
        for step, value, other in rows
        for one in (
            losses(step, value, other),
            look(step, dict.fromkeys(watch_file.NUMBERS, value), {"rate": [other] * 5}),
            {"kind": "sharpness", "step": step, "edge": value},
        )
    ]
    content = "".join(json.dumps(line) + "\n" for line in (header(["a", "b"]), *lines))
    page = atlas.render(watch_file.parsed(Path("w.jsonl"), content.encode()))
    drawn = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert not re.search(r"\b(nan|inf)\b", drawn)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"kind": "look", "step": 1, "seconds": 1, "lr": []}, "line 2 is damaged: it has no 'ten"),
        (look(50, {}), "line 2 is damaged: tensors must be a list of 2"),
        ({**look(50, {}, {}), "step": -1}, "step must be a count, got -1"),
        ({**look(50, {}, {}), "step": 10**400}, "step must be a count, got"),
        (look(50, {"rate": [1.0]}, {}), "rate must be a list of 5"),
        (look(50, [], {}), "a tensor must be an object, got []"),
        (look(50, {"dead": "x"}, {}), "dead must be a finite number or null, got 'x'"),
        (look(50, {"dead": math.inf}, {}), "dead must be a finite number or null, got inf"),
        (losses(1, 10**400), "a loss must be a finite number or null, got"),
        ({"kind": "poem"}, "kind must be look, losses, event or sharpness, got 'poem'"),
        (event(1, layers=[3]), "a layer must be text, got 3"),
        (event(1, values=[3]), "values must be an object, got [3]"),
        ([], "a line must be an object, got []"),
    ],
)
def test_a_line_that_is_wrong_is_told_and_no_page_is_written(line, message, tmp_path):
    whole = written(tmp_path, look(50, {}, {})).rename(tmp_path / "whole.jsonl")
    path = written(tmp_path, line)
    with pytest.raises(LabError, match=re.escape(message)) as told:
        atlas.write_all([whole, path])
    assert str(told.value).startswith(f"{path} line 2 is damaged: ")
    assert "\n" not in str(told.value)
    assert {one.name for one in tmp_path.iterdir()} == {"watch.jsonl", "whole.jsonl"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"version": 2}, "line 1 is damaged: version must be 1, got 2"),
        ({"tensors": {}}, "line 1 is damaged: tensors must be a list"),
        ({"format": "poem"}, "was not written by meansquare.watch"),
    ],
)
def test_a_header_that_is_wrong_is_told(changed, message):
    line = json.dumps({**header(["a"]), **changed}) + "\n"
    with pytest.raises(LabError, match=message):
        watch_file.parsed(Path("w.jsonl"), line.encode())


def test_a_column_of_many_looks_shows_the_largest_of_them(tmp_path):
    looks = [look(i, {"precursor": 9.0 if i == 501 else 1.0}, {}) for i in range(1, 1001)]
    page = atlas.write(written(tmp_path, *looks)).read_text()
    assert f"({atlas.MOST_COLUMNS} columns for 1,000 looks)" in page
    assert "<title>a, step 501: 9</title>" in page


def test_thinning_a_curve_keeps_its_spikes_and_shows_where_it_was_not_finite(tmp_path):
    values: list[float | None] = [1.0 + (i % 7) / 10 for i in range(30_000)]
    values[12_345], values[20_000] = 100.0, None
    watched = watch_file.load(written(tmp_path, losses(1, *values)))
    page = atlas.render(watched)
    assert "The loss by step, from 1 to 100" in page
    assert "losses that were not finite (1)" in page
    (path,) = re.findall(r'class="curve" d="([^"]*)', page)
    x = round(atlas.LEFT + (atlas.WIDTH - atlas.LEFT) * 12_346 / 30_000, 1)
    assert f"L{x} 0.0L" in path
    assert path.count("M") == 2
    assert path.count("L") < 1000


def test_columns_lie_where_their_steps_are(tmp_path):
    steps = [10, 20, 100]
    watched = watch_file.load(written(tmp_path, *(look(step, {}, {}) for step in steps)))
    at = [(column.x, column.width) for column in atlas._columns(watched)]
    wide = atlas.WIDTH - atlas.LEFT
    assert at == [(170.0, wide / 10), (170 + wide / 10, wide / 10), (170 + wide / 5, wide * 0.8)]


def test_a_number_that_is_zero_everywhere_is_said_and_not_drawn(tmp_path):
    page = atlas.render(watch_file.load(written(tmp_path, look(50, {}, {}))))
    assert page.count("It is 0 in every layer at every look.") == 3
    assert page.count("<title>a, step 50: ") == 4


def test_events_are_numbered_where_there_is_room(tmp_path):
    lines = [event(500), event(501), event(1000), *(event(1000) for _ in range(60))]
    page = atlas.render(watch_file.load(written(tmp_path, *lines)))
    shown = re.findall(r'y="-14" text-anchor="middle">(\d+)<', page)
    assert shown == ["1", "3"]
    assert "the first 50 of 63" in page


def real(folder: Path, made: Any = RMSProp, **options: Any) -> Path:
    """A file of a real training, in which a batch was broken."""
    torch.manual_seed(0)
    first = nn.Linear(6, 8)
    model = nn.Sequential(first, nn.Tanh(), nn.Linear(8, 1))
    guard = {"guard": Guard()} if made is RMSProp else {}
    optimizer = made(model.named_parameters(), lr=0.01, **guard, **options)
    with watch(optimizer, every=10, to=folder / "real.jsonl") as watcher:
        for step in range(60):
            x = torch.randn(16, 6)
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            if step == 33:
                first.weight.grad = torch.full_like(first.weight, math.nan)
            optimizer.step()
            watcher.loss(loss)
            if step % 20 == 0:
                watcher.sharpness(lambda x=x: (model(x) - x.sum(1, keepdim=True)).square().mean())
    assert watcher.path
    return watcher.path


def test_the_command_draws_a_real_training(tmp_path):
    path = real(tmp_path)
    done = command("report", path)
    assert (done.returncode, done.stderr) == (0, "")
    page = path.with_suffix(".html")
    assert done.stdout == f"Atlas: {page}\n"
    text = page.read_text()
    assert "Non-finite gradient in 0.weight at step 34 (batch 33): skip." in text
    assert text.count("<rect class") > 4 * 6 * 4
    refused = command("report", path, "--tensorboard", tmp_path / "tb")
    assert refused.returncode == 2
    assert "--tensorboard must have a run folder" in refused.stderr
    missing = command("report", tmp_path / "none.jsonl")
    assert missing.returncode == 2
    assert f"cannot read {tmp_path / 'none.jsonl'}: No such file" in missing.stderr
    assert missing.stderr.count("\n") == 1


def test_a_folder_is_drawn_file_by_file_unless_it_holds_records(tmp_path):
    for name in ("b", "a"):
        written(tmp_path, look(50, {}, {})).rename(tmp_path / f"{name}.jsonl")
    (tmp_path / "other.jsonl").write_text('{"format": "poem"}\n')
    assert [path.name for path in watch_file.watch_files(tmp_path)] == ["a.jsonl", "b.jsonl"]
    done = command("report", tmp_path)
    assert done.stdout == f"Atlas: {tmp_path / 'a.html'}\nAtlas: {tmp_path / 'b.html'}\n"
    (tmp_path / "records.jsonl.xz").touch()
    assert watch_file.watch_files(tmp_path) == []
    assert watch_file.watch_files(tmp_path / "records.jsonl") == []


def test_an_optimizer_without_a_second_moment_has_the_maps_that_it_can_have(tmp_path):
    text = atlas.render(watch_file.load(real(tmp_path, SGD)))
    assert "Update relative to the weights" in text
    assert "<h3>Effective learning rate" not in text


def test_a_large_training_is_a_page_that_can_be_sent(tmp_path):
    names = [f"blocks.{i}.attention.projection.weight" for i in range(200)]
    numbers = dict.fromkeys(watch_file.NUMBERS, 0.123456)
    lines = [look(50 * step, *({**numbers, "precursor": 1 + i / 200} for i in range(200)))
             for step in range(1, 200)]  # fmt: skip
    path = written(tmp_path, losses(1, *(1 / i for i in range(1, 20_000))), *lines, names=names)
    page = atlas.write(path)
    assert page.stat().st_size < 3e6
    assert len(re.findall(r'<th scope="row">blocks', page.read_text())) == 200


def test_long_names_are_cut_at_their_beginning():
    name = "a" * 60 + "proj.weight"
    assert atlas.short(name).endswith("aproj.weight")
    assert len(atlas.short(name)) == atlas.NAME_LENGTH == len(atlas.short(name[-26:]))


def test_names_are_shown_as_they_are_and_run_nothing(tmp_path):
    path = written(tmp_path, look(50, {}, {}), names=("<script>alert(1)</script>", "\ud800{b}"))
    assert "<script" not in atlas.write(path).read_text()


def test_the_page_is_made_where_there_is_no_torch(tmp_path):
    path = real(tmp_path)
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from meansquare.lab.cli import main\n"
        f"raise SystemExit(main(['report', {str(path)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield running
        running.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("kind", ["real", "empty"])
def test_a_browser_shows_it_whole_and_accessible(kind, size, scheme, browser, tmp_path):
    page_file = atlas.write(real(tmp_path) if kind == "real" else written(tmp_path))
    width, height = size
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda one: asked.append(one.url))
    page.goto(page_file.as_uri())
    assert page.locator("#stands-out + *").bounding_box()["y"] < height
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if kind == "real":
        columns = page.locator(".map").first.locator("g[class^=k]")
        boxes = [columns.nth(i).bounding_box() for i in range(columns.count())]
        assert len(boxes) == 6
        for left, right in itertools.pairwise(boxes):  # a gap or an overlap of 2 would be seen
            assert abs(left["x"] + left["width"] - right["x"]) < 2
    assert [url for url in asked if not url.startswith("data:")] == [page_file.as_uri()]
    if AXE.exists():
        page.add_script_tag(path=str(AXE))
        assert page.evaluate("axe.run().then((r) => r.violations.map((v) => v.id))") == []
    assert said == []
    page.close()
