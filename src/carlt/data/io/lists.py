"""List files: one ``<relative path> <label>`` per line, read strictly, because a wrong line makes wrong numbers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from carlt.data.images import OnError
from carlt.errors import CarltError
from carlt.runs.paths import check_file
from carlt.runs.text import counted, get_logger

log = get_logger(__name__)

LEAVES = re.compile(rb"^(?:[/\\]|.:)|(?:^|[/\\])\.\.(?:[/\\]|$)", re.MULTILINE)
"""An absolute path, or one with a ``..`` in it."""
MAX_BYTES = 1 << 30
"""Of a list; that of iNaturalist 2018, 437,513 images, has 33 million."""


@dataclass(frozen=True)
class Records:
    """Image paths, relative, bytes (N,), their ``labels``, int64 (N,), and their ``lines`` in the ``source``."""

    source: str
    paths: np.ndarray
    labels: np.ndarray
    lines: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: np.ndarray | slice) -> "Records":
        return Records(self.source, self.paths[index], self.labels[index], self.lines[index])

    def rewritten(self, pattern: str, replacement: str) -> "Records":
        """Every path with ``pattern`` replaced; one pass over all of them as one text."""
        text = re.sub(pattern.encode(), replacement.encode(), b"\n".join(self.paths.tolist()), flags=re.MULTILINE)
        return Records(self.source, np.array(text.split(b"\n"), dtype=np.bytes_), self.labels, self.lines)


def read_list(path: Path, num_classes: int, on_error: OnError = "raise") -> Records:
    """Records of a list file; LF or CRLF ended, blank lines at the end are ignored.

    Raises:
        CarltError: the file cannot be read; or a line is blank, has no label, a label that is no integer in
            [0, num_classes), an absolute path, one that leaves the folder, or one listed before. The first such line is
            named; with ``on_error="skip"`` these lines are counted, logged and left out.
    """
    try:
        check_file(path, f"list {path}", MAX_BYTES)
        text = path.read_bytes().rstrip()
    except OSError as error:
        raise CarltError(f"list {path} cannot be read: {error.strerror}") from None
    rows = [row.rstrip().rpartition(b" ")[::2] for row in text.split(b"\n")]
    return checked_records(str(path), rows, num_classes, on_error)


def checked_records(
    source: str, rows: Sequence[tuple[bytes, bytes]], num_classes: int, on_error: OnError = "raise"
) -> Records:
    """Records of a source's (relative path, label) rows, the first on line 1; errors as in :func:`read_list`."""
    label_of = {str(label).encode(): label for label in range(num_classes)}
    # One search of all paths is faster than half a million.
    strays = LEAVES.search(b"\n".join(name for name, _ in rows)) is not None
    paths, labels, lines, seen = [], [], [], set()
    bad: list[str] = []
    for line, (name, label) in enumerate(rows, 1):
        if label not in label_of or name in seen or not name or (strays and LEAVES.search(name)):
            bad.append(f"{source}, line {line}: {_complaint(name, label, num_classes, name in seen)}")
            if on_error == "raise":
                raise CarltError(f"{bad[0]}; correct the list, or leave such lines out with data.on_error=skip")
            continue
        seen.add(name)
        paths.append(name)
        labels.append(label_of[label])
        lines.append(line)
    if bad:
        log.warning("left out %s of %s; the first: %s", counted(len(bad), "line"), source, bad[0])
    if not paths:
        raise CarltError(f"list {source} holds no usable line; each should read `<relative path> <label>`")
    return Records(source, np.array(paths, dtype=np.bytes_), np.array(labels, np.int64), np.array(lines, np.int32))


def _complaint(name: bytes, label: bytes, num_classes: int, seen: bool) -> str:
    """The problem of a line, in words."""
    if not name and not label:
        return "the line is blank"
    if not name:
        return f"{label.decode(errors='replace')!r} is not `<relative path> <label>`"
    if seen:
        return f"{name.decode(errors='replace')} is listed twice"
    if LEAVES.search(name):
        return f"{name.decode(errors='replace')} leaves the data folder; paths are relative and have no `..`"
    return f"the label {label.decode(errors='replace')!r} is no integer from 0 to {num_classes - 1}"
