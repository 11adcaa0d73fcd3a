"""Exclusive use of a folder: a lock that a killed process does not hold."""

import fcntl
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from carlt.errors import CarltError
from carlt.runs import paths


@contextmanager
def exclusive_lock(path: Path, place: Path, *, wait: bool = False, option: str = "folder") -> Iterator[None]:
    """Hold the lock file ``path`` in the block, on behalf of ``place``; the file is removed at the end.

    The lock is the operating system's, on the open file: it ends with the process, however that ends. On a file system
    without locks nothing is held.

    Args:
        wait: whether to wait for another process that holds it.
        option: what names the place.

    Raises:
        CarltError: another process holds it and ``wait`` is false, or the file cannot be written, or is none of ours.
    """
    with suppress(OSError):
        if path.stat().st_size:  # ours are empty, and removed at the end
            raise CarltError(f"{path} is no lock of carlt; move it, or choose another {option}")
    try:
        file = _open_locked(path, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        if isinstance(error, PermissionError) and not os.access(path.parent, os.W_OK):
            raise CarltError(f"{place} cannot be written ({error.strerror}); choose another {option}") from None
        raise CarltError(f"another process uses {place}; wait until it ends, or choose another {option}") from None
    except OSError as error:
        raise CarltError(f"{place} cannot be written ({error.strerror}); choose another {option}") from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(file)


def _open_locked(path: Path, how: int) -> int:
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.lockf(file, how)
        except (BlockingIOError, PermissionError):
            os.close(file)
            raise
        except OSError:
            return file  # a file system without locks
        try:
            # The holder before us may have removed the file between our open and our lock.
            if os.fstat(file).st_ino == path.stat().st_ino:
                return file
        except FileNotFoundError:
            pass
        os.close(file)


def _may_be_replaced(config: Path) -> bool:
    """Whether a new run may write its config over ``config``: it is missing, or carlt wrote it for a run that never
    began."""
    if not config.exists():
        return True
    try:
        return any(line.startswith("run_hash:") for line in paths.read_text(config).splitlines())
    except UnicodeDecodeError:
        return False


@contextmanager
def claim_folder(folder: Path, *, new: bool, option: str = "hydra.run.dir") -> Iterator[None]:
    """Hold ``folder`` as the place of one process in the block. A folder that was made here and stays empty is removed.

    Args:
        new: whether a new run begins: the folder must not hold a run then.
        option: what names the folder.

    Raises:
        CarltError: another process runs there, the folder holds a run, or it cannot be made or written.
    """
    missing: list[Path] = []
    try:
        missing += [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CarltError(f"{folder} cannot be made ({error.strerror}); choose another {option}") from None
    try:
        with exclusive_lock(folder / paths.LOCK, folder, option=option):
            if new and any((folder / name).exists() for name in (paths.RESULT, paths.METRICS, paths.CHECKPOINTS)):
                raise CarltError(
                    f"{folder} holds a run: go on with it ({shlex.quote(f'resume={folder}')}) or choose "
                    f"another {option}"
                )
            if new and not _may_be_replaced(folder / paths.CONFIG):
                raise CarltError(f"{folder / paths.CONFIG} is not of carlt; choose another {option}")
            yield
    finally:
        for path in missing:
            with suppress(OSError):  # the folder is not empty
                path.rmdir()
