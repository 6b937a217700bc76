"""Files as an attacker or a bad disk would write them."""

import io
import os
import pickle
import random
import struct
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def file_of(held: object, zipped: bool = True, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(held, file, _use_new_zipfile_serialization=zipped, **options)
    return file.getvalue()


def zip_of(program: bytes) -> bytes:
    """A checkpoint whose pickle is this program."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in {
            "data.pkl": program,
            "version": b"3\n",
            "byteorder": b"little",
        }.items():
            archive.writestr(f"archive/{name}", content)
    return file.getvalue()


def run(function: Any, *arguments: Any) -> Any:
    """An object that calls the function wherever a pickle of it is loaded."""
    return type("Hostile", (), {"__reduce__": lambda self: (function, arguments)})()


HOSTILE = {
    "system": lambda mark: run(os.system, f"echo > {mark}"),
    "eval": lambda mark: run(eval, f"open({str(mark)!r}, 'w')"),
    "exec": lambda mark: run(exec, f"open({str(mark)!r}, 'w')"),
    "open": lambda mark: run(io.open, str(mark), "w"),
    "process": lambda mark: run(subprocess.call, ["touch", str(mark)]),
    "folder": lambda mark: run(os.mkdir, str(mark)),
    "torch": lambda mark: run(torch.save, 1, str(mark)),
    "method": lambda mark: run(Path.write_text, Path(mark), "ran"),
}
PACKINGS = {
    "in_a_zip": lambda hostile: file_of({"optimizer": {"state": {}, "param_groups": [hostile]}}),
    "in_a_legacy_file": lambda hostile: file_of({"lr": hostile}, False),
    "protocol_0": lambda hostile: pickle.dumps(hostile, protocol=0),
    "protocol_2": lambda hostile: pickle.dumps(hostile, protocol=2),
    "protocol_4": lambda hostile: pickle.dumps(hostile, protocol=4),
    "zip_of_protocol_4": lambda hostile: zip_of(pickle.dumps(hostile, protocol=4)),
    "in_place_of_a_key": lambda hostile: zip_of(b"\x80\x02}" + middle(hostile) + b"K\x01s."),
    "before_it_is_cut_off": lambda hostile: zip_of(b"\x80\x02" + middle(hostile)),
}


def middle(hostile: object) -> bytes:
    """A pickle's instructions without its frame."""
    return pickle.dumps(hostile, protocol=2)[2:-1]


HUGE = b"\x8a\x07" + b"\x7f" * 7  # some 2**55
PROGRAMS = {
    "deep_key": (b"\x80\x02})" + b"\x85" * 2_000_000 + b"K\x01s.", "no such nesting or call"),
    "deep_storage": (b"\x80\x02)" + b"\x85" * 2_000_000 + b"Q.", "no such nesting or call"),
    "deep_list": (b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".", "no state dict"),
    "deep_dict": (b"\x80\x02" + b"}K\x00" * 10**5 + b"K\x01" + b"s" * 10**5 + b".", "dict of [0]"),
    "long_call": (b"\x80\x02]q\x00" + b"]q\x01h\x00ah\x00aq\x00" * 60 + b")R.", "nesting or call"),
    "long_list": (b"\x80\x02]q\x00" + b"]q\x01h\x00ah\x00aq\x00" * 60 + b".", "no state dict"),
    "inside_itself": (b"\x80\x02]q\x00h\x00a.", "no state dict of an optimizer but [[[...]]]"),
    "no_stack": (b"\x80\x02a.", "(a pickle that takes what is not there)"),
    "no_mark": (b"\x80\x02]e.", "(a pickle that takes what is not there)"),
    "no_memo": (b"\x80\x02h\x07.", "damaged or no checkpoint (KeyError)"),
    "no_end": (b"\x80\x02}", "damaged or no checkpoint"),
    "huge_text": (b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b".", "damaged or no checkpoint"),
    "huge_bytes": (b"\x80\x02c__builtin__\nbytearray\n" + HUGE + b"\x85R.", "more memory than"),
    "surrogate": (b"\x80\x02}X\x03\x00\x00\x00\xed\xa0\x80K\x01s.", r"dict of ['\ud800']"),
    "protocol_9": (b"\x80\x09}.", "but a dict of []"),
}  # fmt: skip


def rewritten(content: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    """The same zip with each part changed, and the checksums right."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename, change(entry.filename, old.read(entry)))
    return file.getvalue()


def larger(name: str, part: bytes) -> bytes:
    """Shapes and storages of 37 elements that claim to be of 60,000."""
    return part.replace(b"K\x25", b"M\x60\xea") if name.endswith("data.pkl") else part


def shorter(name: str, part: bytes) -> bytes:
    return part[:-4] if "/data/" in name else part


def damaged(content: bytes, kind: str, source: random.Random) -> bytes:
    """A bit flipped, a byte replaced, or a few bytes cut out or put in."""
    at = source.randrange(len(content))
    length = source.choice([1, 2, 8, 100])
    new = {
        "flip": bytes([content[at] ^ (1 << source.randrange(8))]),
        "replace": source.randbytes(1),
        "insert": source.randbytes(length) + content[at : at + 1],
        "cut": b"",
    }
    return content[:at] + new[kind] + content[at + (length if kind == "cut" else 1) :]
