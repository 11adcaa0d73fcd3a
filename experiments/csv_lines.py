"""Records of experiments: one line of a CSV file per finished run."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def read_lines(path: Path) -> list[dict[str, str]]:
    """All lines; none if there is no file yet."""
    return list(csv.DictReader(path.open(newline=""))) if path.exists() else []


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Add a line, in a new file after its header."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow(row)


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A new file in place of an old one."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
