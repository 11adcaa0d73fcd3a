"""The image files that a user's words stand for."""

import glob
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from carlt.data.io.decode import EXTENSIONS
from carlt.data.io.walk import is_image, not_read, walk
from carlt.errors import CarltError
from carlt.runs.text import get_logger

LIST = ".txt"
TABLES = frozenset({".csv", ".tsv", ".json", ".jsonl", ".xlsx", ".parquet"})
log = get_logger(__name__)


def find_images(images: Path | str | Iterable[Path | str]) -> list[Path]:
    """The image files that ``images`` stands for, each once.

    Args:
        images: a file, a folder (with its subfolders), a glob pattern (``**`` crosses folders), a text file ``.txt``
            with a path in each line, or several of these. Folders and patterns give the files with the extension of an
            image, in the order of their names. Lines of a text file, and a ``Path`` among several, that are no folder
            are taken as they are: a file that does not exist is a prediction with an error, and the others go on.

    Raises:
        CarltError: a file or folder that does not exist, one without images, or an empty list.
    """
    if isinstance(images, (str, Path)):
        found = _find(images)
    else:
        found = [path for item in images for path in ([Path(item)] if _is_given_file(item) else _find(item))]
        if not found:
            raise CarltError("images: the list is empty; give a file, a folder, a pattern, or a list of them")
    return list(dict.fromkeys(found))


def _is_given_file(item: Path | str) -> bool:
    return isinstance(item, Path) and not os.path.isdir(item)


def _find(item: Path | str) -> list[Path]:
    path = Path(item)
    if os.path.isfile(path):  # unlike Path.is_file, False for a name that is too long
        if path.suffix.lower() in TABLES:
            raise CarltError(f"images={item} is no image: give a text file, {LIST}, with a path in each line")
        return _listed(path) if path.suffix.lower() == LIST else [path]
    found: list[Path] = []
    if os.path.isdir(path):
        found = _images_below(path)
    elif glob.has_magic(str(item)):
        matches = [name for name in sorted(_matches(str(item))) if is_image(os.path.basename(name))]
        # Of the names of one file, as a link to a folder above gives them, the first.
        once = {os.path.realpath(name): Path(name) for name in reversed(matches) if os.path.isfile(name)}
        found = sorted(once.values(), key=str)
    else:
        raise CarltError(f"images={item} does not exist; give a file, a folder, a pattern or a list of files")
    if not found:
        raise CarltError(f"images={item} has no images; images end in {' '.join(sorted(EXTENSIONS))}")
    return found


def _matches(pattern: str) -> Iterator[str]:
    """What ``glob.glob`` gives where ``**`` crosses folders. It would go through links in circles in every order, which
    are too many for two of them; here each folder is visited once."""
    before, *after = re.split(r"(?:^|(?<=/))\*\*(?:/+|$)", pattern, maxsplit=1)
    if not after:
        yield from glob.iglob(pattern)
        return
    for top in glob.iglob(before or "."):
        for folder, _ in walk(top) if os.path.isdir(top) else ():
            yield from _matches(os.path.join(glob.escape(folder), after[0] or "*"))


def _listed(path: Path) -> list[Path]:
    """The paths in a text file, relative to the current folder, as ``find`` writes them; of folders, their images."""
    lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    names = [Path(os.fsdecode(line)) for line in lines if line.strip()]
    if found := [file for name in names for file in (_images_below(name) if os.path.isdir(name) else [name])]:
        return found
    raise CarltError(f"images={path} is an empty list; it has a path in each line")


def _images_below(folder: Path) -> list[Path]:
    found = [(parent, name) for parent, names in walk(folder) for name in names]
    if pictures := not_read(name for _, name in found):
        log.warning("images=%s: left out %s; convert them to JPEG or PNG", folder, pictures)
    return sorted((Path(parent, name) for parent, name in found if is_image(name)), key=str)
