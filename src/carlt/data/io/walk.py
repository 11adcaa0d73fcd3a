"""The image files and the class folders below a folder."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from carlt.data.io.decode import EXTENSIONS
from carlt.runs.text import counted

NOT_READ = frozenset(
    {".arw", ".avif", ".cr2", ".cr3", ".dng", ".heic", ".heif", ".jp2", ".jxl", ".nef", ".orf", ".raf"}
)
"""Extensions of pictures, of telephones and cameras too, that carlt does not read."""


def image_files(folder: Path | str) -> Iterator[str]:
    """Paths of the image files anywhere below ``folder``, unsorted; hidden files and other extensions are left out."""
    return filter(is_image, _files(folder))


def not_read(folder: Path | str) -> str:
    """The pictures below ``folder`` that ``image_files`` leaves out for their format, in words; empty without any."""
    extensions = (os.path.splitext(path)[1].lower() for path in _files(folder))
    found = Counter(extension for extension in extensions if extension in NOT_READ)
    formats = ", ".join(f"{extension} {count:,}" for extension, count in found.most_common())
    return f"{counted(found.total(), 'picture')} in formats that carlt does not read ({formats})" if found else ""


def _files(folder: Path | str) -> Iterator[str]:
    """Paths of all files below ``folder`` that are not hidden and in no hidden folder.

    Links are followed; each folder is visited once, so a link to a folder above it does no harm.
    """
    seen: set[tuple[int, int]] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        facts = os.stat(parent)
        if (facts.st_dev, facts.st_ino) in seen:
            folders.clear()
            continue
        seen.add((facts.st_dev, facts.st_ino))
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (os.path.join(parent, file) for file in files if not file.startswith("."))


def class_folders(base: Path, depth: int) -> tuple[list[str], list[str]]:
    """The folders ``depth`` levels below ``base``, as paths relative to it, and the image files that lie above them.

    Hidden folders are left out; both lists are sorted.
    """
    folders, strays = [], []
    for entry in sorted(os.scandir(base), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
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
    """Whether a file of this name or path counts as an image: by its extension, and not hidden."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS and not os.path.basename(name).startswith(".")
