"""A full or read-only disk, or too little memory, ends a command with one line."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from carlt.errors import CarltError, first_line

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


STOPPED = re.compile(r"DataLoader worker .*(killed by signal|exited unexpectedly)|bus error encountered in worker")
"""What torch says when a process that loads images ended: usually it was killed because memory ran out."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the machine or its GPU had too little memory; torch names the machine's in a RuntimeError."""
    of_gpu = type(error).__name__ == "OutOfMemoryError"  # torch's, and torch is not imported here
    text = str(error)
    return isinstance(error, MemoryError) or of_gpu or "can't allocate memory" in text or bool(STOPPED.search(text))


@contextmanager
def memory_errors(remedy: str) -> Iterator[None]:
    """Turn too little memory in the block into a CarltError that ends in ``remedy``; of processes that load images, in
    what helps there."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if STOPPED.search(str(error)):
            raise CarltError(
                "a process that loads images was stopped, usually because the machine, or the shared memory of its "
                f"container, has too little memory ({first_line(error)}); lower data.num_workers, or give the "
                "container more, as in docker run --shm-size=8g"
            ) from error
        place = "the GPU" if "cuda" in str(error).lower() else "this machine"
        raise CarltError(f"{place} has too little memory{_amount(error)}; {remedy}") from error


def _amount(error: BaseException) -> str:
    """How much torch asked for, if it says so.

    >>> _amount(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 40000000000 bytes."))
    ' for 37.3 GiB more'
    >>> _amount(RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of ..."))
    ' for 20.00 MiB more'
    """
    found = re.search(r"tried to allocate ([\d.]+) (\w+)", str(error), re.IGNORECASE)
    if not found:
        return ""
    number, unit = found.groups()
    return f" for {float(number) / 2**30:.1f} GiB more" if unit == "bytes" else f" for {number} {unit} more"
