"""The names of the files of a run folder, and how files are written and recognised."""

import hashlib
import math
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from carlt.errors import CarltError

CONFIG = "config.yaml"
RESULT = "result.json"
METRICS = "metrics.csv"
PER_CLASS = "per_class.csv"
CONFUSION = "confusion.npz"
MARGIN_CONFUSION = "margin_confusion.npz"
CHECKPOINTS = "checkpoints"
LOCK = ".lock"
MAX_BYTES = 64 << 20
"""Of a file that is read as text."""
MAX_DEPTH = 100
"""Of folders: Python looks through folders within folders by recursion, which has a limit."""


def with_home(word: str) -> str:
    """``key=~/folder`` with the user's home folder, which shells replace only at the beginning of a word.

    >>> with_home("data.root=~/photos").endswith("~/photos"), with_home("name=a~/b")
    (False, 'name=a~/b')
    """
    return re.sub(r"^([^=~]+=['\"]?)~(?=/)", lambda found: found[1] + str(Path.home()), word)


def checkpoint(run_dir: Path, which: str) -> Path:
    """The checkpoint ``last`` or ``best`` of a run."""
    return run_dir / CHECKPOINTS / f"{which}.ckpt"


def chosen_checkpoint(run_dir: Path, which: str) -> Path:
    """The checkpoint that ``which=`` chooses: ``last``, ``best`` or a file; CarltError if there is none."""
    path = checkpoint(run_dir, which) if which in ("last", "best") else Path(which)
    if not path.is_file():
        raise CarltError(f"which={which}: there is no checkpoint {path}; choose last, best or a file")
    return path


def read_text(path: Path) -> str:
    """The text of a file in a run folder, its line ends as they are.

    Raises:
        FileNotFoundError: there is none.
        CarltError: a pipe, which would be waited for, or a file of more than ``MAX_BYTES``.
    """
    check_file(path, str(path))
    with open(path, newline="", encoding="utf-8") as file:
        return file.read()


def check_file(path: Path, name: str, most: float = MAX_BYTES) -> None:
    """CarltError, which says ``name``, for a pipe or a file of more than ``most`` bytes; FileNotFoundError for none."""
    facts = os.stat(path)
    if not stat.S_ISREG(facts.st_mode):
        raise CarltError(f"{name} is no regular file")
    if facts.st_size > most:
        raise CarltError(f"{name} is larger than {int(most) >> 20} MiB")


def write_text_atomic(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with written_whole(path) as beside:
        beside.write_text(text, encoding="utf-8")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A place beside ``path`` to write to in the block; it is then moved over ``path``, or removed if that failed.

    Each writer has a place of its own: of several that write ``path`` at once, the last one's file stays, whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name that nobody can guess, so that no link to another file lies there.
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield beside
        beside.replace(path)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        # Writers of archives report an error of their own, whose context is the disk's.
        if not isinstance(error, OSError) and isinstance(error.__context__, OSError):
            raise OSError(error.__context__.errno, error.__context__.strerror, str(path)) from None
        raise


def links_out_of(folder: Path) -> Iterator[Path]:
    """The links in ``folder`` that lead out of it, without those that W&B made in its own folder there, into which no
    other link may lead."""
    of_wandb = Path(folder, "wandb")
    place = os.path.realpath(of_wandb)
    for here, below, files in os.walk(folder):
        check_depth(Path(here), folder)
        for path in (Path(here, name) for name in (*below, *files)):
            into_wandb = path.is_symlink() and Path(os.path.realpath(path)).is_relative_to(place)
            if into_wandb or leads_out_of(path, folder):
                yield path
        if Path(here) == folder and not of_wandb.is_symlink():
            below[:] = [name for name in below if name != of_wandb.name]


def is_too_deep(here: Path, top: Path) -> bool:
    """Whether ``here`` lies more than ``MAX_DEPTH`` folders below ``top``."""
    return len(here.parts) - len(top.parts) > MAX_DEPTH


def check_depth(here: Path, top: Path) -> None:
    """CarltError if :func:`is_too_deep`."""
    if is_too_deep(here, top):
        raise CarltError(f"{top} has folders more than {MAX_DEPTH} deep; move them away")


def leads_out_of(path: Path, folder: Path) -> bool:
    """Whether ``path`` is a link to a place that is not in ``folder``."""
    return path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def file_digest(path: Path) -> str:
    """Hexadecimal sha256 of a file, read in pieces; CarltError for a pipe, which would be waited for."""
    check_file(path, str(path), math.inf)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
