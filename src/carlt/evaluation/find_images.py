"""The image files that a user's words stand for."""

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from carlt.data.io.decode import EXTENSIONS
from carlt.data.io.walk import image_files, is_image
from carlt.errors import CarltError

LIST = ".txt"


def find_images(images: Path | str | Iterable[Path | str]) -> list[Path]:
    """The image files that ``images`` stands for, each once.

    Args:
        images: a file, a folder (with its subfolders), a glob pattern (``**`` crosses folders), a text file ``.txt``
            with a path in each line, or several of these. Folders and patterns give the files with the extension of an
            image, in the order of their names. Lines of a text file, and a ``Path`` among several, are taken as they
            are: a file that does not exist is a prediction with an error, and the others go on.

    Raises:
        CarltError: a file or folder that does not exist, one without images, or an empty list.
    """
    if isinstance(images, (str, Path)):
        found = _find(images)
    else:
        found = [path for item in images for path in ([item] if _is_given_file(item) else _find(item))]
        if not found:
            raise CarltError("images: the list is empty; give a file, a folder, a pattern, or a list of them")
    return list(dict.fromkeys(map(Path, found)))


def _is_given_file(item: Path | str) -> bool:
    return isinstance(item, Path) and not item.is_dir()


def _find(item: Path | str) -> list[Path | str]:
    path = Path(item)
    if path.is_file():
        return list(_listed(path)) if path.suffix.lower() == LIST else [path]
    found: list[Path | str] = []
    if path.is_dir():
        found += sorted(image_files(path))
    elif glob.has_magic(str(item)):
        matches = sorted(glob.glob(str(item), recursive=True))
        found += [name for name in matches if is_image(os.path.basename(name)) and os.path.isfile(name)]
    else:
        raise CarltError(f"images={item} does not exist; give a file, a folder, a pattern or a list of files")
    if not found:
        raise CarltError(f"images={item} has no images; images end in {' '.join(sorted(EXTENSIONS))}")
    return found


def _listed(path: Path) -> list[Path]:
    """The paths in a text file, relative to the current folder, as ``find`` writes them."""
    lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    if names := [Path(os.fsdecode(line)) for line in lines if line.strip()]:
        return names
    raise CarltError(f"images={path} is an empty list; it has a path in each line")
