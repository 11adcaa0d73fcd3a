"""A small data set as folders of image files: ``root/train/<class>/`` and ``root/test/<class>/``, read into arrays."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from carlt.data.images import ArrayImages, Split
from carlt.data.io.decode import decode
from carlt.data.io.walk import image_files
from carlt.errors import CarltError

PARTS = ("train", "test")


def has_class_folders(root: Path) -> bool:
    """Whether ``root`` has the folders ``train`` and ``test``."""
    return all((root / part).is_dir() for part in PARTS)


def read_class_folders(root: Path, side: int, threads: int) -> tuple[Split, Split, list[str]]:
    """Training and test split, and the class names.

    The class of an image is the folder that holds it, wherever that lies below ``train/`` or ``test/``: folders of
    super-classes do no harm. Classes are sorted by name, or by number if all names are numbers; images by path.

    Args:
        side: of every image, in pixels.

    Raises:
        CarltError: an image of another size, one that cannot be decoded, or other classes in ``test/``.
    """
    files = {part: sorted(image_files(root / part)) for part in PARTS}
    names = {part: {_folder(path) for path in paths} for part, paths in files.items()}
    if odd := sorted(names["train"] ^ names["test"]):
        raise CarltError(f"{root}: the class folders of train/ and test/ differ, in {', '.join(odd[:3])}")
    if not names["train"]:
        raise CarltError(f"{root} has no images in train/<class>/ and test/<class>/")
    ordered = sorted(names["train"], key=int if all(map(_is_number, names["train"])) else None)
    number = {name: label for label, name in enumerate(ordered)}
    train, test = (_read(paths, number, side, threads) for paths in files.values())
    return train, test, ordered


def _read(paths: list[str], number: dict[str, int], side: int, threads: int) -> Split:
    paths = sorted(paths, key=lambda path: (number[_folder(path)], path))
    pixels = torch.empty(len(paths), 3, side, side, dtype=torch.uint8)

    def fill(item: tuple[int, str]) -> None:
        index, path = item
        pixels[index] = _decoded(Path(path), side)

    # Threads, not processes: decoders release Python's lock, and all write into one array.
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for _ in pool.map(fill, enumerate(paths)):
            pass
    return Split(ArrayImages(pixels), torch.tensor([number[_folder(path)] for path in paths]))


def _decoded(path: Path, side: int) -> Tensor:
    image = decode(path)
    if image.shape[1:] != (side, side):
        height, width = image.shape[1:]
        raise CarltError(f"image {path} has {width} x {height} pixels, not {side} x {side}: it is of another data set")
    return image


def _folder(path: str) -> str:
    return os.path.basename(os.path.dirname(path))


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal()
