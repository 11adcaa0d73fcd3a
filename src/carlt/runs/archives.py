"""Zip files and the arrays of ``.npz`` files; the file may be a stranger's."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from carlt.errors import CarltError

MAX_BYTES = 256 << 20
"""The most bytes of a file's unpacked content: a small file may unpack to more than memory holds."""


def unpacked_size(parts: zipfile.ZipFile) -> int:
    """Bytes of the unpacked content of a zip file."""
    return sum(part.file_size for part in parts.infolist())


def read_arrays(path: Path, names: Sequence[str], max_bytes: int | None = None) -> list[np.ndarray]:
    """The arrays ``names`` of an ``.npz`` file, without pickles.

    Raises:
        CarltError: the file unpacks to more than ``max_bytes``, by default ``MAX_BYTES``.
        Exception: whatever zipfile and numpy raise on a damaged file.
    """
    most = MAX_BYTES if max_bytes is None else max_bytes
    try:
        with zipfile.ZipFile(path) as parts:
            unpacked = unpacked_size(parts)
    except zipfile.BadZipFile:  # numpy would read an array of any size
        raise CarltError(f"{path.name} is damaged: it is no archive of arrays") from None
    if unpacked > most:
        raise CarltError(f"{path.name} is damaged: it unpacks to more than {most >> 20} MiB")
    with np.load(path, allow_pickle=False) as arrays:
        return [arrays[name] for name in names]
