"""A user's own data: a folder of images for a ResNet-18, or text for a byte-level transformer."""

from __future__ import annotations

import glob
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from meansquare.lab.errors import LabError
from meansquare.lab.tasks import Facts, Score
from meansquare.lab.tasks.char_lstm import ngram_bits
from meansquare.lab.tasks.supervised import SplitName, count

if TYPE_CHECKING:
    from torchvision.datasets import ImageFolder

Targets = dict[SplitName, list[int]]
SPLITS = cast(tuple[SplitName, ...], get_args(SplitName))
SPLIT_SEED = 0
TRAIN, VALIDATION = 0.7, 0.15  # of a folder of images that is not split yet
IMAGE_SIZE = 64  # pixels, both ways
IMAGE_BATCH = 32
FEWEST_IMAGES = 10
TEXT_SHARES = (0.8, 0.9)  # where validation and the test begin
TEXT_WINDOW = 128  # bytes
TEXT_BATCH = 16
_KERNELS = torch.library.Library("torchvision", "FRAGMENT")
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


@dataclass(frozen=True)
class Loaded:
    """A task whose examples are read while it trains; `metric` is of mean loss and accuracy."""

    facts: Facts
    model: Callable[[], nn.Module]
    data: Mapping[SplitName, Dataset[Any]]
    metric: Callable[[float, float], float]

    def start(self, seed: int) -> Reading:
        torch.manual_seed(seed)
        return Reading(self, self.model(), torch.Generator().manual_seed(seed))


class Reading:
    """One run: a DataLoader reads every split, the training split in a new order each epoch."""

    def __init__(self, task: Loaded, model: nn.Module, order: torch.Generator) -> None:
        self.model = model
        self._task, self._order = task, order

    def parameters(self) -> Iterable[Tensor]:
        return self.model.parameters()

    def losses(self) -> Iterator[Tensor]:
        self.model.train()
        for inputs, targets in self._batches("train", shuffle=True):
            yield nn.functional.cross_entropy(self.model(inputs), targets)

    def validate(self) -> Score:
        return self._evaluate("validation")

    def test(self) -> float:
        return self._evaluate("test").metric

    def series(self) -> Mapping[str, Sequence[float]]:
        return {}

    def _batches(self, name: SplitName, shuffle: bool = False) -> Iterable[tuple[Tensor, Tensor]]:
        size = self._task.facts.batch_size
        return DataLoader(self._task.data[name], size, shuffle=shuffle, generator=self._order)

    @torch.no_grad()
    def _evaluate(self, name: SplitName) -> Score:
        self.model.eval()
        loss, right, seen = 0.0, 0, 0
        for inputs, targets in self._batches(name):
            output = self.model(inputs)
            loss += nn.functional.cross_entropy(output, targets, reduction="sum").item()
            right += int((output.argmax(1) == targets).sum())
            seen += targets.numel()
        return Score(loss / seen, self._task.metric(loss / seen, right / seen))


def load_images(name: str, folder: Path) -> Loaded:
    """The task of a folder of images, one folder a class; LabError says what keeps it from one.

    Either it holds `train`, `validation` and `test`, each with the classes, or the classes, and
    is split at random with a fixed seed.
    """
    _require_folder(folder)
    _require_torchvision()
    data, classes, targets = _images(folder)

    def model() -> nn.Module:
        from torchvision.models import resnet18

        return resnet18(num_classes=classes)

    commonest = Counter(targets["train"]).most_common(1)[0][0]
    facts = Facts(
        name=name,
        title=f"Images in {folder.name}",
        kind="cnn",
        model=f"ResNet-18 from random weights, images resized to {IMAGE_SIZE}x{IMAGE_SIZE}",
        parameters=count(model()),
        batch_size=IMAGE_BATCH,
        sizes={part: len(numbers) for part, numbers in targets.items()},
        metric="test accuracy",
        unit="%",
        higher_is_better=True,
        baselines={
            "always the commonest class": 100.0
            * targets["test"].count(commonest)
            / len(targets["test"])
        },
        notes=f"Images of {classes} classes from {folder.name}, "
        + ("in splits of the folder's own" if _is_split(folder) else "split at random, fixed seed")
        + ", read without augmentation; cross-entropy loss.",
    )
    return Loaded(facts, model, data, lambda loss, accuracy: 100.0 * accuracy)


def _is_split(folder: Path) -> bool:
    return all((folder / name).is_dir() for name in SPLITS)


def _images(folder: Path) -> tuple[dict[SplitName, Dataset[Any]], int, Targets]:
    """The images of each split, how many classes there are, and each split's classes."""
    if _is_split(folder):
        parts: dict[SplitName, ImageFolder] = {name: _folder(folder / name) for name in SPLITS}
        for name, part in parts.items():
            if part.classes != parts["train"].classes:
                raise LabError(f"{folder / name} has other classes than {folder / 'train'}.")
        _require_enough(folder, parts["train"].classes, sum(map(len, parts.values())))
        own: Targets = {name: list(part.targets) for name, part in parts.items()}
        return {**parts}, len(parts["train"].classes), own
    if any((folder / name).is_dir() for name in SPLITS):
        raise LabError(f"{folder} is split in part: {', '.join(SPLITS)} are wanted, or none.")
    whole = _folder(folder)
    _require_enough(folder, whole.classes, len(whole))
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(SPLIT_SEED))
    ends = [round(TRAIN * len(whole)), round((TRAIN + VALIDATION) * len(whole))]
    chosen = dict(zip(SPLITS, (part.tolist() for part in order.tensor_split(ends)), strict=True))
    targets: Targets = {name: [whole.targets[one] for one in part] for name, part in chosen.items()}
    return {name: Subset(whole, part) for name, part in chosen.items()}, len(whole.classes), targets


def _require_torchvision() -> None:
    try:
        _import_torchvision()
    except (ImportError, RuntimeError) as error:
        raise LabError(
            f"images need a torchvision that goes with torch {torch.__version__} ({error})."
        ) from error


def _import_torchvision() -> None:
    try:
        import torchvision  # pyright: ignore[reportUnusedImport]
    except RuntimeError as error:
        # Beside a torch for the CPU, the wheel on PyPI (built for CUDA) finds none of its kernels,
        # and fails at those that it describes. Images need none of them.
        if "torchvision::nms" not in str(error):
            raise
        for name in ("nms", "qnms"):
            _KERNELS.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision  # noqa: F401  # pyright: ignore[reportUnusedImport]


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise LabError(f"images:{folder}: there is no such folder.")
    if not any(folder.iterdir()):
        raise LabError(f"{folder} is empty; a folder of images for each class is wanted.")


def _require_enough(folder: Path, classes: Sequence[str], images: int) -> None:
    if len(classes) < 2:
        raise LabError(f"{folder} has one class, {classes[0]}; at least two are wanted.")
    if images < FEWEST_IMAGES:
        raise LabError(f"{folder} has {images} images; at least {FEWEST_IMAGES} are wanted.")


def _folder(folder: Path) -> ImageFolder:
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import Compose, Normalize, Resize, ToTensor

    scaled = Compose(
        [Resize((IMAGE_SIZE, IMAGE_SIZE)), ToTensor(), Normalize((0.5,) * 3, (0.5,) * 3)]
    )
    try:
        return ImageFolder(str(folder), scaled, loader=_image)
    except FileNotFoundError as error:
        raise LabError(f"{folder}: {error}") from error


def _image(path: str) -> Any:
    from torchvision.datasets.folder import default_loader

    try:
        return default_loader(path)
    except OSError as error:
        raise LabError(f"cannot read the image {path} ({type(error).__name__}).") from error


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
