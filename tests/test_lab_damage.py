"""A record file that is damaged anywhere: its header is refused in one line, a run is skipped."""

import copy
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hostile import damaged
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cli import refusal

from meansquare.lab import record, schema
from meansquare.lab.arms import choose
from meansquare.lab.cli import main
from meansquare.lab.compare import summarize
from meansquare.lab.errors import LabError
from meansquare.lab.study import fingerprint, study_of
from meansquare.lab.wording import finding

DEEP = "[" * 100_000 + "]" * 100_000
JUNK = {
    "null": "null",
    "true": "true",
    "nan": "NaN",
    "infinity": "-Infinity",
    "past_floats": "1e999",
    "near_the_end_of_floats": "1e308",
    "negative": "-1",
    "fraction": "0.5",
    "integer_past_floats": "1" + "0" * 400,
    "integer_of_too_many_digits": "1" + "0" * 5000,
    "empty_text": '""',
    "long_text": '"' + "long " * 10_000 + '"',
    "surrogate": '"\\ud800"',
    "lines": '"two\\nlines"',
    "formula": '"$\\\\frac{$"',
    "style": '"[/bold]"',
    "way_out": '"../../escaped"',
    "empty_list": "[]",
    "lists": "[[1.0], [2.0]]",
    "empty_object": "{}",
    "object": '{"versions": 1, "label": null}',
    "deep": DEEP,
    "rather_deep": "[" * 900 + "]" * 900,
}
PLACE = "\u2603"  # stands where the junk goes, which json would not write

REFUSED = [
    (0, ("protocol",), "null", "the header's protocol: None where an object is wanted"),
    (0, ("protocol", "seeds"), "past_floats", "the header's protocol: seeds is inf"),
    (0, ("protocol", "seeds"), "negative", "the header's protocol: seeds is -1"),
    (0, ("protocol", "tasks", 0), "way_out", "protocol: tasks is ['../../escaped', 'co2']"),
    (0, ("protocol", "optimizers", 0), "null", "the header's protocol: optimizers is [None, 'sgd'"),
    (0, ("protocol", "rates", 0), "negative", "protocol: rates is [-1, "),
    (0, ("protocol", "axes"), "empty_object", "protocol: axes are not those of its optimizers"),
    (0, ("protocol", "epochs"), "empty_object", "protocol: epochs are not those of its tasks"),
    (0, ("protocol", "budget"), "integer_past_floats", "the header's protocol: budget is 1000"),
    (0, ("protocol", "tuning_seed"), "rather_deep", "protocol: tuning_seed is [[[...]]]"),
    (0, ("schema",), "rather_deep", "schema [[[...]]] where 2 is read"),
    (0, ("schema",), "deep", "the header is not JSON"),
    (0, ("fingerprint",), "null", "the fingerprint does not fit the protocol"),
    (0, ("tasks",), "empty_object", "the header's tasks are not those of its protocol"),
    (0, ("tasks", "co2"), "empty_list", "tasks: co2: [] where an object is wanted"),
    (0, ("tasks", "co2", "name"), "way_out", "the header's tasks: co2 has another name"),
    (0, ("tasks", "co2", "title"), "style", "the header's tasks: co2: title is '[/bold]'"),
    (0, ("tasks", "co2", "title"), "surrogate", "tasks: co2: title is '\\ud800'"),
    (0, ("tasks", "co2", "unit"), "formula", "the header's tasks: co2: unit is '$\\\\frac{$'"),
    (0, ("tasks", "co2", "metric"), "empty_text", "the header's tasks: co2: metric is ''"),
    (0, ("tasks", "co2", "notes"), "long_text", "the header's tasks: co2: notes is 'long long"),
    (0, ("tasks", "co2", "notes"), "surrogate", "tasks: co2: notes is '\\ud800'"),
    (0, ("tasks", "co2", "kind"), "null", "the header's tasks: co2: kind is None"),
    (0, ("tasks", "co2", "sizes"), "lists", "the header's tasks: co2: sizes is [[1.0], [2.0]]"),
    (0, ("tasks", "co2", "baselines", "last value"), "nan", "the header is not JSON"),
    (0, ("tasks", "co2", "higher_is_better"), "null", "co2: higher_is_better is None"),
    (0, ("setups",), "lists", "the header's setups are not those of its protocol"),
    (0, ("setups", "adam", "label"), "lines", "setups: adam: label is 'two\\nlines'"),
    (1, ("settings", "lr"), "integer_past_floats", "settings is {'lr': 1000"),
    (1, ("settings", "lr"), "integer_of_too_many_digits", "skipped: not JSON"),
    (1, ("seed",), "true", "skipped: seed is True"),
    (1, ("steps",), "near_the_end_of_floats", "skipped: steps is 1e+308"),
    (1, ("train_loss",), "lists", "skipped: train_loss is [[1.0], [2.0]]"),
    (1, ("validation_loss",), "empty_list", "whose periods and status do not go together"),
    (1, ("test_metric",), "fraction", "whose periods and status do not go together"),
    (1, ("steps",), "deep", "skipped: not JSON"),
    (1, ("made_by",), "object", "skipped: made_by is {'label': None, 'versions': 1}"),
    (1, ("made_by", "machine"), "null", "skipped: made_by is {"),
    (1, (), "rather_deep", "skipped: not a JSON object"),
]


def with_junk(lines: list[bytes], number: int, place: tuple, junk: str) -> bytes:
    """A record file with other JSON in one place, and the fingerprint that goes with it."""
    whole = {"": json.loads(lines[number])}
    *way, last = ("", *place)
    node: Any = whole
    for key in way:
        node = node[key]
    node[last] = PLACE
    text = json.dumps(whole[""], ensure_ascii=False).replace(f'"{PLACE}"', junk)
    if number == 0 and place[:1] == ("protocol",):
        text = signed(text)
    return b"\n".join([*lines[:number], text.encode(), *lines[number + 1 :]]) + b"\n"


def signed(text: str) -> str:
    try:
        header = json.loads(text)
        return text.replace(header["fingerprint"], fingerprint(header["protocol"]))
    except (ValueError, RecursionError):
        return text


def places(node: Any, path: tuple = ()) -> list[tuple]:
    """The way to every node of a JSON value, the whole of it first."""
    inner: Any = node.items() if isinstance(node, dict) else ()
    inner = enumerate(node) if isinstance(node, list) else inner
    return [path, *(place for key, one in inner for place in places(one, (*path, key)))]


@pytest.fixture(scope="module")
def lines(finished) -> list[bytes]:
    return (finished / record.FILE_NAME).read_bytes().splitlines()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("damaged")


def assert_read_or_refused(folder: Path, content: bytes) -> bool:
    """That one line refuses it, or every run is one of its study and has a report; whether so."""
    (folder / record.FILE_NAME).write_bytes(content)
    try:
        read = record.load(folder)
    except LabError as error:
        message = str(error)
    else:
        assert_sound(read)
        return True
    assert "\n" not in message
    assert len(message) < len(str(folder)) + 1000
    return False


def assert_sound(read: record.Folder) -> None:
    for made in read.records:
        assert record.decode(record.encode(made)) == made
    study_of(read.protocol).final(choose(read.records))
    for task in summarize(read).tasks:
        assert finding(task)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    kind=st.sampled_from(["flip", "replace", "insert", "cut"]),
    source=st.randoms(use_true_random=False),
)
def test_bytes_changed_anywhere_are_read_or_refused(kind, source, lines, folder):
    assert_read_or_refused(folder, damaged(b"\n".join(lines) + b"\n", kind, source))


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    number=st.integers(0, 2),
    source=st.randoms(use_true_random=False),
    name=st.sampled_from(sorted(JUNK)),
)
def test_json_changed_anywhere_is_read_or_refused(number, source, name, lines, folder):
    place = source.choice(places(json.loads(lines[number])))
    assert_read_or_refused(folder, with_junk(lines, number, place, JUNK[name]))


@pytest.mark.parametrize(("number", "place", "junk", "message"), REFUSED)
def test_damage_is_named_with_its_line(number, place, junk, message, lines, folder):
    content = with_junk(lines, number, place, JUNK[junk])
    read = assert_read_or_refused(folder, content)
    assert read == (number > 0)
    said = what_is_said_of(folder)
    assert f"line {number + 1} is damaged" in said
    assert message in said


def what_is_said_of(folder: Path) -> str:
    try:
        (notice,) = record.load(folder).notices
    except LabError as error:
        return str(error)
    return notice


@pytest.mark.parametrize(
    ("number", "place", "junk", "message"), [row for row in REFUSED if row[0] == 0][::5]
)
def test_the_report_of_a_damaged_header_is_refused(
    number, place, junk, message, lines, folder, capsys
):
    content = with_junk(lines, number, place, JUNK[junk])
    (folder / record.FILE_NAME).write_bytes(content)
    assert message.replace("\n", " ") in refusal(capsys, "report", folder)
    assert [entry.name for entry in folder.iterdir()] == [record.FILE_NAME]
    assert (folder / record.FILE_NAME).read_bytes() == content


def test_a_run_of_another_seed_is_skipped(lines, folder):
    runs = [json.loads(line) for line in lines]
    for number, seed in ((1, 5), (len(runs) - 1, 7), (len(runs) - 1, 0)):
        changed = copy.deepcopy(runs)
        changed[number]["seed"] = seed
        content = b"\n".join(json.dumps(run).encode() for run in changed) + b"\n"
        (folder / record.FILE_NAME).write_bytes(content)
        assert "a run that is not in the header's protocol" in what_is_said_of(folder)


def test_the_ends_of_what_is_accepted_are_drawn_without_a_warning(lines, tmp_path):
    header, *runs = (json.loads(line) for line in lines)
    ends = itertools.cycle([0.0, 1e-100, 1.0, schema.LARGEST])
    for run in (run for run in runs if run["phase"] == "final" and run["status"] == "ok"):
        end = next(ends)
        run |= {name: len(run[name]) * [end] for name in ("train_loss", "validation_loss")}
        time = min(end, schema.LONGEST_TIME)
        run |= dict.fromkeys(("step_us", "optimizer_seconds", "training_seconds"), time)
        run["test_metric"] = -end
    header["tasks"]["co2"]["baselines"] = {"low": -schema.LARGEST, "high": schema.LARGEST}
    text = "\n".join(map(json.dumps, [header, *runs])) + "\n"
    (tmp_path / record.FILE_NAME).write_text(text)
    assert main(["report", str(tmp_path)]) == 0
