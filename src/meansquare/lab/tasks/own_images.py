"""A user's folder of images, for a ResNet-18."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, cast, get_args

import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from meansquare.lab.errors import LabError
from meansquare.lab.tasks import Facts
from meansquare.lab.tasks.loaded import Loaded
from meansquare.lab.tasks.supervised import SplitName, count

if TYPE_CHECKING:
    from torchvision.datasets import ImageFolder

Targets = dict[SplitName, list[int]]
SPLITS = cast(tuple[SplitName, ...], get_args(SplitName))
SPLIT_SEED = 0
TRAIN, VALIDATION = 0.7, 0.15  # of a folder of images that is not split yet
SMALLEST, LARGEST, STEP = 64, 224, 32  # pixels, both ways, that images are resized to
LOOKED_AT = 100  # images that the size is told from
IMAGE_BATCH = 32
FEWEST_IMAGES = 10
_KERNELS = torch.library.Library("torchvision", "FRAGMENT")


def load_images(name: str, folder: Path) -> Loaded:
    """The task of a folder of images, one folder a class; LabError says what keeps it from one.

    Either it holds `train`, `validation` and `test`, each with the classes, or the classes, and
    is split at random with a fixed seed.
    """
    _require_folder(folder)
    _require_torchvision()
    data, classes, targets, size = _images(folder)

    def model() -> nn.Module:
        from torchvision.models import resnet18

        return resnet18(num_classes=classes)

    commonest = Counter(targets["train"]).most_common(1)[0][0]
    facts = Facts(
        name=name,
        title=f"Images in {folder.name}",
        kind="cnn",
        model=f"ResNet-18 from random weights, images resized to {size}x{size}",
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


def _images(folder: Path) -> tuple[dict[SplitName, Dataset[Any]], int, Targets, int]:
    """The images of each split, how many classes there are, each split's classes, and the size."""
    if _is_split(folder):
        parts: dict[SplitName, ImageFolder] = {name: _folder(folder / name) for name in SPLITS}
        for name, part in parts.items():
            if part.classes != parts["train"].classes:
                raise LabError(f"{folder / name} has other classes than {folder / 'train'}.")
        _require_enough(folder, parts["train"].classes, sum(map(len, parts.values())))
        own: Targets = {name: list(part.targets) for name, part in parts.items()}
        size = _resized(*parts.values())
        return {**parts}, len(parts["train"].classes), own, size
    if any((folder / name).is_dir() for name in SPLITS):
        raise LabError(f"{folder} is split in part: {', '.join(SPLITS)} are wanted, or none.")
    whole = _folder(folder)
    _require_enough(folder, whole.classes, len(whole))
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(SPLIT_SEED))
    ends = [round(TRAIN * len(whole)), round((TRAIN + VALIDATION) * len(whole))]
    chosen = dict(zip(SPLITS, (part.tolist() for part in order.tensor_split(ends)), strict=True))
    targets: Targets = {name: [whole.targets[one] for one in part] for name, part in chosen.items()}
    size = _resized(whole)
    drawn: dict[SplitName, Dataset[Any]] = {
        name: Subset(whole, part) for name, part in chosen.items()
    }
    return drawn, len(whole.classes), targets, size


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

    try:
        return ImageFolder(str(folder), loader=_image)
    except FileNotFoundError as error:
        raise LabError(f"{folder}: {error}") from error


def _resized(*folders: ImageFolder) -> int:
    """Have the images resized, all alike, and tell to how many pixels.

    That is the median of the shorter sides in the first folder, in steps of STEP, or the nearest
    bound.
    """
    from torchvision.transforms import Compose, Normalize, Resize, ToTensor

    paths = [path for path, _ in folders[0].samples]
    sides = [min(_image(path).size) for path in paths[:: max(1, len(paths) // LOOKED_AT)]]
    size = min(LARGEST, max(SMALLEST, STEP * round(median(sides) / STEP)))
    for folder in folders:
        folder.transform = Compose(
            [Resize((size, size)), ToTensor(), Normalize((0.5,) * 3, (0.5,) * 3)]
        )
    return size


def _image(path: str) -> Any:
    from torchvision.datasets.folder import default_loader

    try:
        return default_loader(path)
    except OSError as error:
        raise LabError(f"cannot read the image {path} ({type(error).__name__}).") from error
