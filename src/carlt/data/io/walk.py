"""The image files below a folder."""

import os
from collections.abc import Iterator
from pathlib import Path

from carlt.data.io.decode import EXTENSIONS


def image_files(folder: Path | str) -> Iterator[str]:
    """Paths of the image files anywhere below ``folder``, unsorted.

    Hidden files and folders and other extensions are left out. Links are followed; each folder is visited once, so a
    link to a folder above it does no harm.
    """
    seen: set[tuple[int, int]] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        facts = os.stat(parent)
        if (facts.st_dev, facts.st_ino) in seen:
            folders.clear()
            continue
        seen.add((facts.st_dev, facts.st_ino))
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in files:
            if is_image(file):
                yield os.path.join(parent, file)


def is_image(name: str) -> bool:
    """Whether a file of this name counts as an image: by its extension, and not hidden."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS and not name.startswith(".")
