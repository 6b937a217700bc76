"""The atlas: what was watched becomes one page that says first what stands out."""

import json
import math
import subprocess
import sys
from pathlib import Path

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
from meansquare.lab.atlas_findings import EPS_SHARE, MOST, findings
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
        "tensors": [t if t is None else {**USUAL, **t} for t in tensors],
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
    assert "Nothing: no layer is outside" in atlas.render(watch_file.load(tmp_path / "watch.jsonl"))


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"eps_rules": 0.83}, "eps rules 83% of the weights of b since step 150"),
        ({"precursor": 4.1}, "The spike precursor of b was 4.1 at step 200"),
        ({"dead": 0.5}, "50% of the weights of b never had a gradient."),
        ({"stale": 0.9}, "The second moment of 90% of the weights of b is stale"),
        ({"relative_update": 0.5}, "A step changes b by 50% of its weights."),
        ({"relative_update": 1e-9}, "A step changes b by 1e-09 of its weights: it hardly moves."),
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


def test_there_are_never_too_many_findings(tmp_path):
    names = [f"layer{i}" for i in range(40)]
    lines = look(150, *[{"eps_rules": 1.0} for _ in names])
    assert len(told(tmp_path, lines, names=names)) == MOST


@settings(derandomize=True, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1))
def test_since_when_eps_rules_is_the_last_time_it_began_to(first, second):
    names, shares = ("a",), [first, second, 0.9]
    lines = [header(names), *(look(50 * i, {"eps_rules": s}) for i, s in enumerate(shares, 1))]
    watched = watch_file.parsed(Path("x"), "".join(json.dumps(x) + "\n" for x in lines).encode())
    (found,) = findings(watched)
    since = 150 if second <= EPS_SHARE else 100 if first <= EPS_SHARE else 50
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
        with pytest.raises(LabError, match=r"w\.jsonl line 1 is damaged: the header is missing"):
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


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"kind": "look"}, "line 2 is damaged: no 'tensors'"),
        (look(50, {}), "line 2 is damaged: tensors must be 2"),
        ({**look(50, {}, {}), "step": -1}, "a count must be one, got -1"),
        (look(50, {"rate": [1.0]}, {}), "rate must be five quantiles"),
        (look(50, {"dead": "x"}, {}), "a number must be one or null, got 'x'"),
        ({"kind": "poem"}, "unknown kind 'poem'"),
        (event(1, layers=[3]), "a name must be text, got 3"),
    ],
)
def test_a_line_that_is_wrong_is_told_and_no_page_is_written(line, message, tmp_path):
    path = written(tmp_path, line)
    with pytest.raises(LabError, match=message.replace("[", r"\[")):
        atlas.write(path)
    assert [one.name for one in tmp_path.iterdir()] == ["watch.jsonl"]


def real(folder, made=RMSProp, **options):
    """A file of a real training, in which a batch was broken."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
    guard = {"guard": Guard()} if made is RMSProp else {}
    optimizer = made(model.named_parameters(), lr=0.01, **guard, **options)
    with watch(optimizer, every=10, to=folder / "real.jsonl") as watcher:
        for step in range(60):
            x = torch.randn(16, 6)
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            if step == 33:
                model[0].weight.grad[0, 0] = math.nan
            optimizer.step()
            watcher.loss(loss)
            if step % 20 == 0:
                watcher.sharpness(lambda x=x: (model(x) - x.sum(1, keepdim=True)).square().mean())
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
    assert "--tensorboard is for run folders" in refused.stderr
    missing = command("report", tmp_path / "none.jsonl")
    assert missing.returncode == 2
    assert missing.stderr.count("\n") == 1


def test_an_optimizer_without_a_second_moment_has_the_maps_that_it_can_have(tmp_path):
    text = atlas.render(watch_file.load(real(tmp_path, SGD)))
    assert "Update relative to the weights" in text
    assert "<h3>Effective learning rate" not in text


def test_a_large_training_is_a_page_that_can_be_sent(tmp_path):
    names = [f"blocks.{i}.attention.projection.weight" for i in range(200)]
    lines = [look(50 * step, *({"precursor": 1 + i / 200} for i in range(200)))
             for step in range(1, 400)]  # fmt: skip
    path = written(tmp_path, losses(1, *(1 / i for i in range(1, 20_000))), *lines, names=names)
    page = atlas.write(path)
    assert page.stat().st_size < 4e6


def test_names_are_shown_as_they_are_and_run_nothing(tmp_path):
    path = written(tmp_path, look(50, {}, {}), names=("<script>alert(1)</script>", "b"))
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


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_a_browser_shows_it_whole_and_accessible(size, scheme, tmp_path):
    page_file = atlas.write(real(tmp_path))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        width, height = size
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("request", lambda one: asked.append(one.url))
        page.goto(page_file.as_uri())
        assert page.locator("ol.findings").bounding_box()["y"] < height
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        cell = page.locator("figure rect[class^=c]").first
        assert cell.bounding_box()["width"] > 1
        assert [url for url in asked if not url.startswith("data:")] == [page_file.as_uri()]
        if AXE.exists():
            page.add_script_tag(path=str(AXE))
            assert page.evaluate("axe.run().then((r) => r.violations.map((v) => v.id))") == []
        assert said == []
        browser.close()
