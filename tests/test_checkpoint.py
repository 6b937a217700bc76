"""A file that is damaged, cut or hostile gives one line and runs nothing; a good one is read."""

import errno
import io
import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile import (
    HOSTILE,
    PACKINGS,
    PROGRAMS,
    damaged,
    file_of,
    larger,
    rewritten,
    run,
    shorter,
    zip_of,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snapshot import one_line
from torch import nn
from twins import copies, layouts, parameters, walk

from meansquare import RMSProp, read_checkpoint

REFUSALS = (ValueError, TypeError, OSError)
FORMATS = {"zip": True, "legacy": False}


def optimizer(kind: type = RMSProp, **options: Any) -> torch.optim.Optimizer:
    opt = kind(layouts(), momentum=0.9, **options)
    walk((opt,), 2)
    return opt


def refusal(path: Path) -> str:
    """The one line by which a file is refused, without any warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(REFUSALS) as error:
            read_checkpoint(path)
    assert one_line(error.value, "cannot read", path.name)
    assert len(str(error.value)) < len(str(path)) + 300
    return str(error.value)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.pt"


HOLDERS = {
    "itself": lambda saved: saved,
    "optimizer": lambda saved: {"model": {"weight": torch.ones(2)}, "optimizer": saved, "epoch": 3},
    "optimizer_state_dict": lambda saved: {"optimizer_state_dict": saved, "loss": 0.5},
    "lightning": lambda saved: {"state_dict": {}, "optimizer_states": [saved], "lr_schedulers": []},
    "any": lambda saved: {7: saved},
}


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
@pytest.mark.parametrize("zipped", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("kind", [RMSProp, torch.optim.RMSprop])
def test_the_state_dict_is_found_wherever_it_lies_and_goes_on(hold, zipped, kind, path):
    opt = optimizer(kind)
    path.write_bytes(file_of(hold(opt.state_dict()), zipped))
    again = RMSProp(copies(parameters(opt)))
    again.load_state_dict(read_checkpoint(str(path)))
    for p, q in zip(parameters(opt), parameters(again), strict=True):
        assert torch.equal(opt.state[p]["square_avg"], again.state[q]["square_avg"])


def test_a_file_that_torch_wrote_without_checksums_is_read(path):
    torch.serialization.set_crc32_options(False)
    try:
        path.write_bytes(file_of(optimizer().state_dict()))
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_checkpoint(path).keys() == {"state", "param_groups"}


def test_where_there_are_several_or_none_their_keys_are_named(path):
    saved = optimizer().state_dict()
    path.write_bytes(file_of({"generator": saved, "rest": [1, saved], "epoch": 3}))
    assert "it holds 2 state dicts, at 'generator', 'rest'[1]; save one" in refusal(path)
    path.write_bytes(file_of({"model": {}, "epoch": 3}))
    assert "no state dict of an optimizer but a dict of ['model', 'epoch']; save" in refusal(path)
    path.write_bytes(file_of(torch.ones(2)))
    assert "no state dict of an optimizer but Tensor of shape (2,)" in refusal(path)


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("pack", PACKINGS.values(), ids=PACKINGS)
def test_code_in_a_file_is_refused_and_never_run(make, pack, path, tmp_path):
    mark = tmp_path / "ran"
    path.write_bytes(pack(make(mark)))
    refusal(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(make(mark)))
    assert mark.exists(), "this would run"


def test_the_code_in_a_file_is_named(path):
    path.write_bytes(file_of({"lr": run(os.system, "true")}))
    line = refusal(path)
    assert "x.pt: it holds code that torch does not run (posix.system); save state dicts of" in line
    path.write_bytes(zip_of(b"\x80\x02cevil\x1b[31m\nname\n."))
    assert "(evil?[31m.name)" in refusal(path)


@pytest.mark.parametrize(("program", "message"), PROGRAMS.values(), ids=PROGRAMS)
def test_a_pickle_that_would_hang_or_end_python_is_refused(program, message, path):
    path.write_bytes(zip_of(program))
    assert message in refusal(path)


def test_a_pickle_is_followed_by_whatever_letters_torch_finds_it(path):
    path.write_bytes(zip_of(PROGRAMS["inside_itself"][0]).replace(b"data.pkl", b"DATA.PKL"))
    assert "it holds no state dict of an optimizer but [[[...]]]" in refusal(path)
    path.write_bytes(zip_of(PROGRAMS["deep_key"][0]).replace(b"data.pkl", b"DATA.PKL"))
    assert "no such nesting or call" in refusal(path)


@pytest.mark.parametrize("change", [larger, shorter])
def test_a_tensor_larger_than_its_storage_is_refused(change, path):
    content = file_of(optimizer().state_dict())
    path.write_bytes(rewritten(content, lambda name, part: part))
    read_checkpoint(path)
    path.write_bytes(rewritten(content, change))
    assert "does not match expected size" in refusal(path)


def test_a_file_that_unpacks_to_more_than_it_is_is_refused(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"N0" * 10**6 + b"N.")
    assert "it claims more bytes than it has" in refusal(path)


def test_what_is_no_file_is_refused(tmp_path):
    assert "No such file or directory; give the path" in refusal(tmp_path / "nowhere.pt")
    assert "it is not a file; give the path" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "it is not a file; give the path" in refusal(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError) as error:
        read_checkpoint(tmp_path / "two\nlines")
    assert one_line(error.value, "two lines: No such file")
    for none in (None, 3, b"x.pt"):
        with pytest.raises(TypeError) as error:
            read_checkpoint(none)  # type: ignore[arg-type]
        assert one_line(error.value, "the path of a checkpoint must be a str or Path, got")


def test_a_file_without_permission_is_refused(path, monkeypatch):
    def denied(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    path.write_bytes(file_of(optimizer().state_dict()))
    monkeypatch.setattr("builtins.open", denied)
    assert "Permission denied; give the path" in refusal(path)


@pytest.mark.parametrize("junk", [b"", b"several\nlines of text", b"PK\x03\x04", bytes(4000)])
def test_a_file_of_something_else_is_refused(junk, path):
    path.write_bytes(junk)
    assert "x.pt: it is damaged or no checkpoint (" in refusal(path)


@pytest.mark.parametrize("zipped", FORMATS.values(), ids=FORMATS)
def test_a_file_that_was_cut_off_is_refused_wherever(zipped, path):
    content = file_of(optimizer().state_dict(), zipped)
    for end in range(0, len(content), len(content) // 60):
        path.write_bytes(content[:end])
        assert "damaged" in refusal(path)


def test_one_flipped_bit_of_a_tensor_is_noticed(path):
    content = file_of(optimizer().state_dict())
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = [entry for entry in archive.infolist() if "/data/" in entry.filename]
        for entry in (entry for entry in parts if entry.file_size > 32):
            flipped = bytearray(content)
            flipped[content.index(archive.read(entry))] ^= 1
            path.write_bytes(flipped)
            assert "Bad CRC-32 for file" in refusal(path)


SMALL = RMSProp([nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(2))], momentum=0.9)
walk((SMALL,), 2)
FILES = {name: file_of(SMALL.state_dict(), zipped) for name, zipped in FORMATS.items()}


@settings(
    derandomize=True, deadline=None, max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    name=st.sampled_from(sorted(FILES)),
    kind=st.sampled_from(["flip", "replace", "insert", "cut"]),
    source=st.randoms(use_true_random=False),
)
def test_a_file_damaged_anywhere_is_read_and_steps_or_is_refused(name, kind, source, path):
    path.write_bytes(damaged(FILES[name], kind, source))
    opt = RMSProp(copies(parameters(SMALL)))
    walk((opt,), 1)
    refused: Exception | None = None
    try:
        opt.load_state_dict(read_checkpoint(path))
    except REFUSALS as error:
        refused = error
    assert refused is None or one_line(refused)
    if not any(group["differentiable"] for group in opt.param_groups):
        opt.step()
