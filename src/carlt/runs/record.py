"""The record of a run: result.json, per_class.csv and the confusions, written once and read by every report."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from carlt.errors import CarltError, first_line
from carlt.runs import paths
from carlt.runs.text import from_spreadsheet_cell, printable, spreadsheet_cell
from carlt.shots import GROUPS, group_of

MAX_NUMBER = 1 << 53
"""Of counts and epochs, and of every number in ``result.json``."""


class ClassResult(NamedTuple):
    """One class on the test split; ``accuracy`` is in [0, 1], NaN without test images."""

    class_id: int
    class_name: str
    train_count: int
    group: str
    test_count: int
    correct: int
    accuracy: float


def write_result(run_dir: Path, result: dict[str, Any]) -> None:
    """``result.json``; a number that is not finite (the mean of an empty group) becomes null."""
    paths.write_text_atomic(run_dir / paths.RESULT, json.dumps(_finite(result), indent=2) + "\n")


def read_result(run_dir: Path) -> dict[str, Any]:
    """The content of ``result.json`` of a finished run.

    Raises:
        CarltError: there is no such file, or it is damaged.
    """
    path = run_dir / paths.RESULT
    try:
        found = json.loads(paths.read_text(path))
    except CarltError:  # no regular file, or too large
        raise
    except OSError as error:
        raise CarltError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise CarltError(f"{path} is damaged: no valid JSON ({first_line(error)})") from None
    if not isinstance(found, dict) or not isinstance(found.get("data", {}), dict):
        raise CarltError(f"{path} is damaged: no mapping of keys to values")
    return found


def write_per_class(
    run_dir: Path, names: Sequence[str], train_counts: Sequence[int], total: Sequence[int], correct: Sequence[int]
) -> list[ClassResult]:
    """``per_class.csv``: one row per class. Control characters in names are written out."""
    rows = [
        ClassResult(i, printable(name), n, group_of(n), seen, right, right / seen if seen else math.nan)
        for i, (name, n, seen, right) in enumerate(zip(names, train_counts, total, correct, strict=True))
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(ClassResult._fields)
    for row in rows:
        cell = row._replace(class_name=spreadsheet_cell(row.class_name))
        writer.writerow([*cell[:-1], "" if math.isnan(row.accuracy) else row.accuracy])
    paths.write_text_atomic(run_dir / paths.PER_CLASS, text.getvalue())
    return rows


def read_per_class(run_dir: Path) -> list[ClassResult]:
    """The rows of ``per_class.csv``, ordered as in the file; ValueError for impossible counts.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = write_per_class(folder, ["cat", "lynx"], [500, 5], [10, 10], [9, 2])
    >>> [(row.class_name, row.group, row.accuracy) for row in read_per_class(folder)]
    [('cat', 'many', 0.9), ('lynx', 'few', 0.2)]
    """
    path = run_dir / paths.PER_CLASS
    rows = [
        ClassResult(
            number(row["class_id"], int),
            from_spreadsheet_cell(row["class_name"]),
            number(row["train_count"], int),
            row["group"],
            number(row["test_count"], int),
            number(row["correct"], int),
            number(row["accuracy"] or "nan"),
        )
        for row in csv.DictReader(io.StringIO(paths.read_text(path), newline=""))
    ]
    for row in rows:
        possible = 0 <= row.train_count <= MAX_NUMBER and 0 <= row.correct <= row.test_count <= MAX_NUMBER
        accuracy = row.correct / row.test_count if possible and row.test_count else math.nan
        if not possible or row.group not in GROUPS or not _same(accuracy, row.accuracy):
            raise ValueError(f"impossible counts of class {row.class_id}")
    return rows


def read_epochs(path: Path) -> list[dict[str, float]]:
    """The rows of a ``metrics.csv``, empty cells left out; ValueError, AttributeError or csv.Error for damage."""
    rows = csv.DictReader(io.StringIO(paths.read_text(path), newline=""), strict=True)
    return [{name: _number_of_epoch(cell) for name, cell in row.items() if cell} for row in rows]


def _number_of_epoch(cell: str) -> float:
    """A whole number stays whole, unless it is so large that arithmetic with it would fail."""
    return number(cell, int if cell.isdecimal() and len(cell) <= len(str(MAX_NUMBER)) else float)


def number(cell: str, kind: type = float) -> Any:
    """A cell of a table as a number. The error does not repeat the cell: a report would show it."""
    try:
        return kind(cell)
    except ValueError:
        raise ValueError("a cell is no number") from None


def _same(a: float, b: float) -> bool:
    return (math.isnan(a) and math.isnan(b)) or abs(a - b) < 1e-4


def write_confusion(
    run_dir: Path, true: np.ndarray, predicted: np.ndarray, count: np.ndarray, num_classes: int
) -> None:
    """``confusion.npz``: the non-zero test cells; ``count[k]`` images of class ``true[k]`` predicted as
    ``predicted[k]``."""
    with paths.written_whole(run_dir / paths.CONFUSION) as beside, open(beside, "wb") as file:
        np.savez_compressed(file, true=true, predicted=predicted, count=count, num_classes=np.array(num_classes))


def write_margin_confusions(
    run_dir: Path, cells: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], num_classes: int
) -> None:
    """``margin_confusion.npz``: of each split the non-zero cells of its hard margin confusion; ``<split>_count[k]``
    images of class ``<split>_true[k]`` have ``<split>_rival[k]`` as their strongest rival, within the margin."""
    arrays: dict[str, Any] = {
        f"{split}_{name}": array
        for split, of_split in cells.items()
        for name, array in zip(("true", "rival", "count"), of_split, strict=True)
    }
    with paths.written_whole(run_dir / paths.MARGIN_CONFUSION) as beside, open(beside, "wb") as file:
        np.savez_compressed(file, **arrays, num_classes=np.array(num_classes))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
