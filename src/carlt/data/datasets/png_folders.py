"""A small data set as folders of image files: ``root/train/<class>/`` and ``root/test/<class>/``, read into arrays."""

import os
from pathlib import Path

import torch

from carlt.data.datasets.in_memory import decode_all
from carlt.data.images import FileImages, OnError, Split
from carlt.data.io.walk import image_files
from carlt.errors import CarltError

PARTS = ("train", "test")


def has_class_folders(root: Path) -> bool:
    """Whether ``root`` has the folders ``train`` and ``test``."""
    return all((root / part).is_dir() for part in PARTS)


def read_class_folders(root: Path, side: int, threads: int, on_error: OnError) -> tuple[Split, Split, list[str]]:
    """Training and test split, and the class names.

    The class of an image is the folder that holds it, wherever that lies below ``train/`` or ``test/``: folders of
    super-classes do no harm. Classes are sorted by name, or by number if all names are numbers; images by path.

    Args:
        side: of every image, in pixels.
        on_error: ``"skip"`` leaves out images of another size and those that cannot be decoded.

    Raises:
        CarltError: an image of another size, one that cannot be decoded, or other classes in ``test/``.
    """
    files = {part: sorted(image_files(root / part)) for part in PARTS}
    names = {part: {_folder(path) for path in paths} for part, paths in files.items()}
    if odd := sorted(names["train"] ^ names["test"]):
        raise CarltError(
            f"{root}: the class folders of train/ and test/ differ, in {', '.join(odd[:3])}; give both the same folders"
        )
    if not names["train"]:
        raise CarltError(
            f"{root} has no images in train/<class>/ and test/<class>/; point data.root at a folder that has them"
        )
    ordered = sorted(names["train"])
    if all(map(_is_number, ordered)):
        ordered.sort(key=int)  # 1 and 01 stay in their order
    number = {name: label for label, name in enumerate(ordered)}
    train, test = (_read(root, paths, number, side, threads, on_error) for paths in files.values())
    return train, test, ordered


def _read(root: Path, paths: list[str], number: dict[str, int], side: int, threads: int, on_error: OnError) -> Split:
    paths = sorted(paths, key=lambda path: (number[_folder(path)], path))
    files = FileImages(root, [os.path.relpath(path, root) for path in paths], on_error)
    return decode_all(Split(files, torch.tensor([number[_folder(path)] for path in paths])), side, threads, exact=True)


def _folder(path: str) -> str:
    return os.path.basename(os.path.dirname(path))


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal()
