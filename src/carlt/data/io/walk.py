"""The image files and the class folders below a folder."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from carlt.data.io.decode import EXTENSIONS
from carlt.errors import CarltError
from carlt.runs.paths import check_depth
from carlt.runs.text import counted

NOT_READ = frozenset(
    {".arw", ".avif", ".cr2", ".cr3", ".dng", ".heic", ".heif", ".jp2", ".jxl", ".nef", ".orf", ".raf"}
)
"""Extensions of pictures, of telephones and cameras too, that carlt does not read."""


def image_files(folder: Path | str) -> Iterator[str]:
    """Paths of the image files anywhere below ``folder``, unsorted; hidden files and other extensions are left out, and
    folders as in :func:`walk`."""
    for parent, files in walk(folder):
        yield from (os.path.join(parent, file) for file in files if is_image(file))


def not_read(names: Iterable[str]) -> str:
    """The pictures among files of these names that carlt does not read, in words; empty without any."""
    shown = (name for name in names if not name.startswith("."))
    found = Counter(extension for name in shown if (extension := os.path.splitext(name)[1].lower()) in NOT_READ)
    formats = ", ".join(f"{extension} {count:,}" for extension, count in found.most_common())
    return f"{counted(found.total(), 'picture')} in formats that carlt does not read ({formats})" if found else ""


def walk(folder: Path | str) -> Iterator[tuple[str, list[str]]]:
    """``folder`` and all folders below it, each with the names of its files.

    Hidden folders are left out. Links are followed; each folder is visited once, so a link to a folder above it does no
    harm. A folder that cannot be listed is a CarltError.
    """
    seen: set[tuple[int, int]] = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        check_depth(Path(parent), Path(folder))
        facts = os.stat(parent)
        if (facts.st_dev, facts.st_ino) in seen:
            folders.clear()
            continue
        seen.add((facts.st_dev, facts.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield parent, files


def _refuse(error: OSError) -> NoReturn:
    raise CarltError(f"{error.filename} cannot be read ({error.strerror}); mend that, or remove it") from None


def class_folders(base: Path, depth: int) -> tuple[list[str], list[str]]:
    """The folders ``depth`` levels below ``base``, as paths relative to it, and the image files that lie above them.

    Hidden folders are left out; both lists are sorted. A folder that cannot be listed, and a link that leads nowhere,
    which may have been a class, is a CarltError.
    """
    folders, strays = [], []
    try:
        entries = sorted(os.scandir(base), key=lambda entry: entry.name)
    except OSError as error:
        _refuse(error)
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_symlink() and not os.path.exists(entry):
            raise CarltError(f"{base / entry.name} is a link that leads nowhere; mend or remove it")
        if not entry.is_dir():
            strays += [entry.name] if is_image(entry.name) else []
        elif depth == 1:
            folders.append(entry.name)
        else:
            below = class_folders(base / entry.name, depth - 1)
            for found, names in zip((folders, strays), below, strict=True):
                found += [f"{entry.name}/{name}" for name in names]
    return folders, strays


def is_image(name: str) -> bool:
    """Whether a file of this name counts as an image: by its extension, and not hidden."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS and not name.startswith(".")
