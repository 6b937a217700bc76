"""The lab's supervised tasks: true facts, separate splits, runs that repeat, and that learn."""

import hashlib
import math
import os
import random
import subprocess
import sys
from functools import cache
from itertools import islice

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from meansquare import RMSProp
from meansquare.lab.errors import LabError
from meansquare.lab.tasks import (
    char_lstm,
    demand,
    fine_tuning,
    long_tail,
    mnist1d,
    own_images,
    own_text,
    rare_words,
)
from meansquare.lab.tasks import sunspots as sunspots_task
from meansquare.lab.tasks.named import load_task

# A learning rate, periods, and the baseline that the run is to beat.
SHORT = {
    "mnist1d": (0.01, 3, "logistic regression"),
    "mnist1d-gru": (0.01, 3, "always the commonest class"),
    "char-lstm": (0.01, 1, "bigram model (Witten-Bell)"),
    "sunspots": (3e-4, 30, "last value"),
    "demand": (3e-4, 10, "seasonal naive (same day last week)"),
    "wine": (1e-3, 100, "always the commonest cultivar"),
    "digits-fine-tuned": (1e-3, 5, "always the commonest digit"),
    "rare-words": (3e-3, 5, "always the commonest topic"),
    "long-tail": (1e-3, 5, "always the commonest number"),
}
SERIES = ("sunspots", "demand")
PARTS = ("train", "validation", "test")
SENTENCE = "The quick brown fox jumps over the lazy dog; the dog does not mind. "


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def loaded(name):
    return load_task(name)


def splits_of(name):
    task = loaded(name)
    return task.whole.splits if name == "char-lstm" else task.splits


def trained(task, seed, lr, periods, steps=None):
    """The losses of a short run, its validation scores, and its test metric."""
    problem = task.start(seed)
    optimizer = RMSProp(problem.parameters(), lr=lr)
    losses, scores = [], []
    for _ in range(periods):
        for loss in islice(problem.losses(), steps):
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scores.append(problem.validate())
    return losses, scores, problem.test()


@cache
def short_run(name):
    """The test metric after a task's periods of SHORT."""
    lr, periods, _ = SHORT[name]
    return trained(loaded(name), 1, lr, periods)[2]


def old_digits():
    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).unflatten(1, (1, 8, 8)) / 16.0
    old = labels < fine_tuning.OLD_CLASSES
    return images[old], torch.tensor(labels)[old]


def pieces(rows):
    return {row.numpy().tobytes() for row in rows}


def assert_apart(kinds):
    train, validation, test = kinds
    assert all(kinds)
    assert not train & validation
    assert not train & test
    assert not validation & test


def beats(task, metric, baseline):
    better = metric - task.facts.baselines[baseline]
    return (better if task.facts.higher_is_better else -better) > 0


@pytest.mark.parametrize("name", SHORT)
def test_the_facts_are_those_of_the_data_and_the_model(name):
    facts, splits = loaded(name).facts, splits_of(name)
    assert facts.name == name
    assert facts.sizes == {part: len(splits[part].targets) for part in PARTS}
    assert facts.sizes == {part: len(splits[part].inputs) for part in PARTS}
    assert facts.parameters == sum(p.numel() for p in loaded(name).start(0).parameters())


@pytest.mark.parametrize("name", SHORT)
def test_a_seed_gives_the_same_run_twice(name):
    first = trained(loaded(name), 1, 1e-3, 2, steps=10)
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    assert trained(loaded(name), 1, 1e-3, 2, steps=10) == first
    assert trained(loaded(name), 2, 1e-3, 2, steps=10)[0] != first[0]


@pytest.mark.parametrize("name", SHORT)
def test_a_short_run_beats_a_trivial_baseline(name):
    assert beats(loaded(name), short_run(name), SHORT[name][2])


@pytest.mark.parametrize("name", SHORT)
def test_a_trained_network_is_better_than_it_was_untrained(name):
    gain = short_run(name) - loaded(name).start(1).test()
    assert (gain if loaded(name).facts.higher_is_better else -gain) > 0


def test_what_is_fine_tuned_is_one_network_under_a_head_that_the_seed_draws():
    first, other = (load_task("digits-fine-tuned").start(seed).model for seed in (1, 2))
    assert torch.equal(first[0].weight, other[0].weight)
    assert not torch.equal(first[-1].weight, other[-1].weight)
    fresh = fine_tuning._network()
    assert not torch.equal(first[0].weight, fresh[0].weight)


def test_the_network_that_is_fine_tuned_reads_the_digits_it_learned_and_no_new_one():
    network = fine_tuning._trained(fine_tuning.Split(*old_digits()))
    inputs, targets = old_digits()
    right = (network((inputs - inputs.mean()) / inputs.std()).argmax(1) == targets).double().mean()
    assert right > 0.99
    new = splits_of("digits-fine-tuned")["test"]
    # It says 0 to 4 of digits from 5 to 9; a fifth would be chance.
    assert (network(new.inputs).argmax(1) == new.targets).double().mean() < 0.5


@pytest.mark.parametrize("name", ["mnist1d", "wine", "digits-fine-tuned"])
def test_no_example_is_in_two_splits(name):
    assert_apart([pieces(splits_of(name)[part].inputs) for part in PARTS])


def test_no_paragraph_is_in_two_splits():
    assert_apart([set(char_lstm._texts()[part].split("\n\n")) for part in PARTS])


def test_no_passage_is_in_two_splits():
    dealt = rare_words._dealt(rare_words._passages()[0])
    assert_apart([{passage.words for passage in dealt[part]} for part in PARTS])


def test_words_are_counted_only_if_training_has_them():
    passages = [rare_words.Passage(("a", "new", "a"), 1)]
    assert rare_words._counted(passages, {"a": 0, "the": 1}).inputs.tolist() == [[2.0, 0.0]]


def test_no_image_of_a_digit_is_in_two_splits():
    halves = {part: splits_of("long-tail")[part].inputs.split(8, dim=2) for part in PARTS}
    assert_apart([pieces(left) | pieces(right) for left, right in halves.values()])


def test_the_kth_commonest_number_comes_one_kth_as_often():
    sizes = splits_of("long-tail")["train"].targets.bincount().sort(descending=True).values
    share = long_tail.TRAIN_PAIRS / sum(1 / k for k in range(1, 101))
    assert all(abs(size - share / k) <= 0.5 for k, size in enumerate(sizes.tolist(), 1))
    assert splits_of("long-tail")["test"].targets.bincount().tolist() == [10] * 100


def test_balanced_accuracy_weighs_classes_alike():
    output = torch.nn.functional.one_hot(torch.tensor([3, 3, 3, 3]), 100)
    assert long_tail.balanced_accuracy(output, torch.tensor([3, 3, 3, 7])) == 50.0


def sunspots_changed_from(step, monkeypatch):
    numbers = sunspots_task.statsmodels.datasets.sunspots.load_pandas()["data"].copy()
    numbers.loc[numbers.index >= step, "SUNACTIVITY"] += 100.0
    module = sunspots_task.statsmodels.datasets.sunspots
    monkeypatch.setattr(module, "load_pandas", lambda: {"data": pd.DataFrame(numbers)})
    return sunspots_task.load("sunspots").splits


def demand_changed_from(step, monkeypatch):
    made = demand.made_demand()
    changed = np.where(np.arange(demand.DAYS) >= step, made.pieces + 100.0, made.pieces)
    monkeypatch.setattr(demand, "made_demand", lambda: made._replace(pieces=changed))
    return demand.load("demand").splits


@pytest.mark.parametrize("after", [0, 5])
@pytest.mark.parametrize("name", SERIES)
def test_a_forecast_does_not_see_what_comes_later(name, after, monkeypatch):
    began = {"sunspots": 1956 - 1700, "demand": demand.TEST_DAY}[name]
    change = {"sunspots": sunspots_changed_from, "demand": demand_changed_from}[name]
    before, changed = splits_of(name), change(began + after, monkeypatch)
    for part in ("train", "validation"):
        assert torch.equal(before[part].inputs, changed[part].inputs)
        assert torch.equal(before[part].targets, changed[part].targets)
    same = (before["test"].inputs == changed["test"].inputs).all(1).tolist()
    assert same[: after + 2] == [True] * (after + 1) + [False]
    assert torch.equal(before["test"].targets[:after], changed["test"].targets[:after])
    assert before["test"].targets[after] != changed["test"].targets[after]


@pytest.mark.parametrize("name", SERIES)
def test_splits_follow_each_other_in_time(name):
    splits = splits_of(name)
    window = {"sunspots": sunspots_task.WINDOW, "demand": demand.WINDOW}[name]
    inputs = torch.cat([splits[part].inputs for part in PARTS])[:, :window]
    targets = torch.cat([splits[part].targets for part in PARTS])
    assert torch.equal(inputs[1:, -1], targets[:-1])
    assert torch.equal(inputs[1:, :-1], inputs[:-1, 1:])


def test_the_week_of_the_demand_turns_over_while_it_is_trained_on():
    days = demand.made_demand().pieces.reshape(-1)[: demand.VALIDATION_DAY]
    assert demand.CHANGE < demand.VALIDATION_DAY
    saturday = np.arange(len(days)) % 7 == 5
    before = np.arange(len(days)) < demand.CHANGE
    assert days[saturday & before].mean() < days[~saturday & before].mean()
    assert days[saturday & ~before].mean() > days[~saturday & ~before].mean()


def test_making_the_signals_leaves_the_global_generators_alone():
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    made = mnist1d._splits()
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2])
    assert torch.equal(made["test"].inputs, splits_of("mnist1d")["test"].inputs)


def test_the_next_part_of_the_text_begins_where_the_last_one_ended():
    whole = loaded("char-lstm").whole
    run = char_lstm.InParts(whole, 3).start(0)
    parts = [[loss.item() for loss in run.losses()] for _ in range(2)]
    wanted = [loss.item() for loss in islice(whole.start(0).losses(), 6)]
    assert parts == [wanted[:3], wanted[3:]]


def test_a_part_of_the_text_is_trained_on_in_training_mode_also_after_a_validation():
    run = char_lstm.InParts(loaded("char-lstm").whole, 3).start(0)
    for _ in range(2):
        assert [run.model.training for _ in run.losses()] == [True] * 3
        run.validate()
        assert not run.model.training


def test_a_bigram_model_mixes_with_the_shorter_one_as_worked_by_hand():
    # After 0 came only 1, twice: (2 + 1 * 1/2) / (2 + 1), where 1/2 is the unigram model's.
    train, test = np.array([0, 1, 0, 1]), np.array([0, 1])
    assert char_lstm.ngram_bits(train, test, 1, 2) == 1.0
    assert char_lstm.ngram_bits(train, test, 2, 2) == -math.log2(2.5 / 3)


def test_the_order_of_hashes_changes_nothing():
    code = (
        "from test_tasks_supervised import digest; print(digest('rare-words'), digest('char-lstm'))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [digest("rare-words"), digest("char-lstm")]


def digest(name):
    """A name for all numbers of a task's splits."""
    parts = [tensor.contiguous().numpy() for part in PARTS for tensor in splits_of(name)[part]]
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def draw_images(folder, classes=2, images=20, size=(12, 10)):
    """Small pictures in a folder for each class, brighter from class to class."""
    draw = np.random.default_rng(0)
    for kind in range(classes):
        (folder / f"kind{kind}").mkdir(parents=True)
        for number in range(images):
            pixels = (draw.random((*size[::-1], 3)) * 60 + 120 * kind).astype("uint8")
            Image.fromarray(pixels).save(folder / f"kind{kind}" / f"{number}.png")
    return folder


def load_images(folder):
    return own_images.load_images(f"images:{folder}", folder)


def load_text(path):
    return own_text.load_text(f"text:{path}", path)


def test_a_folder_of_images_is_split_without_overlap(tmp_path):
    task = load_images(draw_images(tmp_path / "drawn"))
    assert task.facts.name == f"images:{tmp_path / 'drawn'}"
    assert task.facts.sizes == {"train": 28, "validation": 6, "test": 6}
    assert_apart([set(task.data[part].indices) for part in PARTS])


def test_splits_of_the_folder_are_kept(tmp_path):
    for part, images in {"train": 8, "validation": 3, "test": 2}.items():
        draw_images(tmp_path / part, images=images)
    assert load_images(tmp_path).facts.sizes == {"train": 16, "validation": 6, "test": 4}


@pytest.mark.parametrize(
    ("drawn", "resized"), [((12, 10), 64), ((150, 100), 96), ((300, 400), 224)]
)
def test_images_keep_about_their_size_up_to_that_of_full_size_networks(tmp_path, drawn, resized):
    task = load_images(draw_images(tmp_path, images=10, size=drawn))
    assert f"images resized to {resized}x{resized}" in task.facts.model
    for part in PARTS:
        assert task.data[part][0][0].shape == (3, resized, resized)


def test_images_are_learned_and_a_seed_gives_the_same_run_twice(tmp_path):
    task = load_images(draw_images(tmp_path))
    run = trained(task, 1, 1e-4, 4)
    assert trained(task, 1, 1e-4, 2)[:2] == (run[0][:2], run[1][:2])
    assert beats(task, run[2], "always the commonest class")


@pytest.mark.parametrize(
    ("classes", "images", "message"),
    [(1, 20, "one class, kind0"), (2, 2, "has 4 images"), (2, 0, "no valid file")],
)
def test_too_few_images_or_classes_are_told_in_a_line(tmp_path, classes, images, message):
    with pytest.raises(LabError, match=message) as error:
        load_images(draw_images(tmp_path, classes, images))
    assert "\n" not in str(error.value)


def test_a_split_is_not_guessed_from_two_folders_of_it(tmp_path):
    draw_images(tmp_path / "train")
    draw_images(tmp_path / "test")
    with pytest.raises(LabError, match="split in part"):
        load_images(tmp_path)


def test_a_damaged_image_is_named(tmp_path):
    for image in draw_images(tmp_path).rglob("*.png"):
        image.write_bytes(b"not a picture")
    with pytest.raises(LabError, match=r"cannot read the image .*\.png"):
        list(load_images(tmp_path).start(0).losses())


def test_a_folder_that_is_missing_or_empty_is_told(tmp_path):
    with pytest.raises(LabError, match="there is no such folder"):
        load_images(tmp_path / "none")
    with pytest.raises(LabError, match="is empty"):
        load_images(tmp_path)


def test_text_is_learned_and_a_seed_gives_the_same_run_twice(tmp_path):
    (tmp_path / "a.txt").write_text(SENTENCE * 60)
    task = load_text(tmp_path / "a.txt")
    run = trained(task, 1, 1e-3, 3)
    assert trained(task, 1, 1e-3, 1)[:2] == (run[0][:2], run[1][:1])
    assert beats(task, run[2], "unigram model")


def test_texts_of_a_folder_are_read_in_the_order_of_their_names(tmp_path):
    for name, letter in {"b": "two ", "a [1]": "één ", "c": ""}.items():
        (tmp_path / f"{name}.txt").write_text(letter * 400, encoding="utf-8")
    assert own_text._text(tmp_path) == "één " * 400 + "\n\n" + "two " * 400
    task = load_text(tmp_path)
    assert task.facts.name == f"text:{tmp_path}"
    assert task.facts.sizes == {part: len(task.data[part]) for part in PARTS}


def test_a_window_is_followed_by_its_targets():
    windows = own_text.Windows(bytes(range(256)) * 2)
    inputs, targets = windows[1]
    assert len(windows) == 3
    assert torch.equal(inputs, torch.arange(128, 256))
    assert targets.tolist() == [*range(129, 256), 0]


@pytest.mark.parametrize("training", [True, False])
def test_a_byte_is_predicted_from_earlier_bytes_only(training):
    torch.manual_seed(0)
    model = own_text.NextByte().train(training)
    text = torch.randint(256, (2, 128))
    changed = torch.cat([text[:, :64], 255 - text[:, 64:]], 1)
    with torch.no_grad():
        before, after = model(text), model(changed)
    assert torch.equal(before[:, :, :64], after[:, :, :64])
    assert not torch.equal(before[:, :, 64:], after[:, :, 64:])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.txt", None, "there is no file"),
        ("short.txt", b"short", "has 5 bytes"),
        ("empty.txt", b"", "has 0 bytes"),
        ("a.csv", b"a,b" * 999, r"a \.txt file"),
        ("latin.txt", b"caf\xe9 " * 999, "UTF-8"),
    ],
)
def test_text_that_cannot_be_read_is_told_in_a_line(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(LabError, match=message) as error:
        load_text(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_folder_without_text_is_told(tmp_path):
    with pytest.raises(LabError, match=r"folder of \.txt files"):
        load_text(tmp_path)
