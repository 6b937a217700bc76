"""A user's text, for a transformer over bytes."""

from __future__ import annotations

import glob
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from meansquare.lab.errors import LabError
from meansquare.lab.tasks import Facts
from meansquare.lab.tasks.char_lstm import ngram_bits
from meansquare.lab.tasks.loaded import Loaded
from meansquare.lab.tasks.supervised import SplitName, count

SPLITS = cast(tuple[SplitName, ...], get_args(SplitName))
TEXT_SHARES = (0.8, 0.9)  # where validation and the test begin
TEXT_WINDOW = 128  # bytes
TEXT_BATCH = 16
FEWEST_BYTES = 10 * (TEXT_WINDOW + 1)  # a tenth is a window with its targets


class NextByte(nn.Module):
    """A causal transformer that predicts the next byte at every place; classes come second."""

    def __init__(self, width: int = 128, layers: int = 4) -> None:
        super().__init__()
        self.bytes, self.places = nn.Embedding(256, width), nn.Embedding(TEXT_WINDOW, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        self.readout = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 256))

    def forward(self, text: Tensor) -> Tensor:
        length = text.shape[1]
        hidden = self.bytes(text) + self.places.weight[:length]
        later = nn.Transformer.generate_square_subsequent_mask(length, device=text.device)
        for layer in self.layers:
            hidden = layer(hidden, src_mask=later, is_causal=True)
        return self.readout(hidden).transpose(1, 2)


class Windows(Dataset[tuple[Tensor, Tensor]]):
    """Text in pieces of TEXT_WINDOW bytes, each with the bytes that follow; a rest is left out."""

    def __init__(self, text: bytes) -> None:
        self.text = np.frombuffer(text, dtype=np.uint8)

    def __len__(self) -> int:
        return (len(self.text) - 1) // TEXT_WINDOW

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        begin = number * TEXT_WINDOW
        piece = torch.from_numpy(self.text[begin : begin + TEXT_WINDOW + 1].astype(np.int64))
        return piece[:-1], piece[1:]


def load_text(name: str, path: Path) -> Loaded:
    """The task of a .txt file or a folder of them; LabError says what keeps it from being one."""
    text = _text(path).encode()
    if len(text) < FEWEST_BYTES:
        raise LabError(f"{path} has {len(text):,} bytes; at least {FEWEST_BYTES:,} are wanted.")
    bounds = [0, *(int(share * len(text)) for share in TEXT_SHARES), len(text)]
    data: dict[SplitName, Windows] = {
        part: Windows(text[begin:end])
        for part, begin, end in zip(SPLITS, bounds, bounds[1:])  # noqa: B905 - pairs of neighbours
    }
    facts = Facts(
        name=name,
        title=f"Text of {path.name}",
        kind="rnn",
        model="causal transformer over bytes: 4 layers, 4 heads, 128 wide",
        parameters=count(NextByte()),
        batch_size=TEXT_BATCH,
        sizes={part: len(windows) for part, windows in data.items()},
        metric="test bits per byte",
        unit="bits",
        higher_is_better=False,
        baselines=_text_baselines(data["train"].text, data["test"].text),
        notes=f"{len(text):,} bytes of text from {path.name} in windows of {TEXT_WINDOW}; the "
        "first 80 % for training, the next 10 % for validation, the last 10 % for the test. "
        "Cross-entropy loss.",
    )
    return Loaded(facts, NextByte, data, lambda loss, accuracy: loss / math.log(2))


def _text_baselines(train: np.ndarray, test: np.ndarray) -> dict[str, float]:
    orders = {"unigram model": 1, "bigram model (Witten-Bell)": 2}
    return {
        name: ngram_bits(train.astype(np.int64), test.astype(np.int64), order, 256)
        for name, order in orders.items()
    }


def _text(path: Path) -> str:
    """The whole text; files in the order of their names, with an empty line between them."""
    files = sorted(path.rglob("*.txt")) if path.is_dir() else [path]
    if not path.exists():
        raise LabError(f"there is no file or folder {path}.")
    if not files or any(file.suffix != ".txt" for file in files):
        raise LabError(f"{path}: a .txt file or a folder of .txt files is wanted.")
    files = [file for file in files if file.stat().st_size]
    return "\n\n".join(_documents(path, files)) if files else ""


def _documents(path: Path, files: Sequence[Path]) -> Iterable[str]:
    from datasets import DatasetDict, disable_progress_bars, load_dataset
    from datasets.exceptions import DatasetGenerationError

    disable_progress_bars()
    with TemporaryDirectory() as cache:
        try:
            read = load_dataset(
                "text",
                data_files={"text": [glob.escape(str(file.resolve())) for file in files]},
                sample_by="document",
                cache_dir=cache,
                keep_in_memory=True,
            )
        except DatasetGenerationError as error:
            raise LabError(f"cannot read {path} ({error.__cause__}); UTF-8 is wanted.") from error
    return cast(DatasetDict, read)["text"]["text"]
