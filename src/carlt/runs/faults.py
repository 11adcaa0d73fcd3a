"""A full or read-only disk ends a command with one line."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from carlt.errors import CarltError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG)


def check_place(option: str, folder: Path) -> None:
    """CarltError if ``option=folder`` cannot be a folder, because it or one above it is a file."""
    if files := [path for path in (folder, *folder.parents) if os.path.isfile(path)]:
        raise CarltError(f"{option}={folder}: {files[0]} is a file; choose another folder")


@contextmanager
def write_errors(folder: Path, remedy: str) -> Iterator[None]:
    """Turn the operating system's refusal to write in the block into a CarltError that ends in ``remedy``.

    Args:
        folder: the place to name where the error itself names no file.
    """
    try:
        yield
    except OSError as error:
        place = error.filename or folder
        if error.errno in FULL:
            raise CarltError(f"no space left to write {place} ({error.strerror}): {remedy}") from None
        if error.errno in REFUSED:
            raise CarltError(f"{place} cannot be opened or written ({error.strerror}): {remedy}") from None
        raise
