"""Predictions of a trained network for image files: which files, and the most probable classes of each."""

import glob
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from carlt.data.io.decode import EXTENSIONS, decode
from carlt.errors import CarltError

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey, ITU-R BT.601, as Pillow converts."""


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image file, or the reason why it has none."""

    path: Path
    classes: list[str]
    """Names, the most probable class first; empty if the file could not be read."""
    probabilities: list[float]
    """Softmax probability of each of ``classes``, in [0, 1]."""
    error: str | None = None
    """Why the file could not be read; None for a prediction."""


def find_images(images: Path | str | Iterable[Path | str]) -> list[Path]:
    """The image files that ``images`` stands for, each once.

    Args:
        images: one file, a folder (with its subfolders), a glob pattern (``**`` crosses folders), or several of these.
            Folders and patterns give the files with the extension of an image, in the order of their names.

    Raises:
        CarltError: a file or folder that does not exist, or one without images.
    """
    items = [images] if isinstance(images, (str, Path)) else list(images)
    if not items:
        raise CarltError("images: the list is empty; give a file, a folder, a pattern, or a list of them")
    return list(dict.fromkeys(path for item in items for path in _find(item)))


def predict(
    probabilities: Callable[[Tensor], Tensor],
    transform: Callable[[Tensor], Tensor],
    paths: Iterable[Path],
    class_names: list[str],
    *,
    channels: int,
    top_k: int,
    batch_size: int,
) -> Iterator[Prediction]:
    """Predict file after file, in the order of ``paths``. A file that cannot be read is reported, and the rest go on.

    Args:
        probabilities: transformed images, uint8 (N, channels, H, W), to class probabilities (N, C).
        transform: one image, uint8 (1, channels, H, W) of any size, to the size of the network.
        class_names: by class number, (C,).
        channels: 3, or 1 for a network of grey images.
        top_k: classes per image, at least 1; at most C are given.
        batch_size: images per step of the network, at least 1.

    Raises:
        CarltError: ``top_k`` or ``batch_size`` below 1.
    """
    for name, value in (("top_k", top_k), ("batch_size", batch_size)):
        if value < 1:
            raise CarltError(f"{name}={value}: expected at least 1")
    return _predict(probabilities, transform, paths, class_names, channels, top_k, batch_size)


def _predict(
    probabilities: Callable[[Tensor], Tensor],
    transform: Callable[[Tensor], Tensor],
    paths: Iterable[Path],
    class_names: list[str],
    channels: int,
    top_k: int,
    batch_size: int,
) -> Iterator[Prediction]:
    remaining = iter(paths)
    while batch := list(islice(remaining, batch_size)):
        read = [_read(path, transform, channels) for path in batch]
        pictures = [each for each in read if isinstance(each, Tensor)]
        best = probabilities(torch.cat(pictures)).topk(min(top_k, len(class_names))) if pictures else ((), ())
        rows = zip(*best, strict=True)
        for path, each in zip(batch, read, strict=True):
            if isinstance(each, str):
                yield Prediction(path, [], [], each)
            else:
                values, numbers = next(rows)
                yield Prediction(path, [class_names[number] for number in numbers.tolist()], values.tolist())


def _read(path: Path, transform: Callable[[Tensor], Tensor], channels: int) -> Tensor | str:
    """The transformed image (1, channels, H, W), or the reason why there is none."""
    try:
        image = decode(path)[None]
    except CarltError as error:
        return str(error)
    return transform(_grey(image) if channels == 1 else image)


def _grey(image: Tensor) -> Tensor:
    """(1, 1, H, W) of (1, 3, H, W), rounded: torchvision truncates, so its grey of a grey picture is darker."""
    weights = torch.tensor(LUMA).view(3, 1, 1)
    return (image * weights).sum(1, keepdim=True).round().to(torch.uint8)


def _find(item: Path | str) -> list[Path]:
    path = Path(item)
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(path.rglob("*"))
    elif glob.has_magic(str(item)):
        found = sorted(map(Path, glob.glob(str(item), recursive=True)))
    else:
        raise CarltError(f"images={item} does not exist")
    if images := [each for each in found if each.suffix.lower() in EXTENSIONS and each.is_file()]:
        return images
    raise CarltError(f"images={item} has no images; images end in {' '.join(sorted(EXTENSIONS))}")
