"""The classes of a group over its seeds, and their confusion."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from carlt.reporting.groups import Group
from carlt.runs.reading import Cells
from carlt.runs.record import ClassResult

T = TypeVar("T")


def agreed(groups: Sequence[Group], value: Callable[[ClassResult], T]) -> list[T | None]:
    """The value of each class (C,), such as its training images; None where configurations differ in it."""
    found = zip(*(map(value, group.classes) for group in groups), strict=True)
    return [values[0] if len(set(values)) == 1 else None for values in found]


def mean_accuracy(group: Group) -> tuple[np.ndarray, np.ndarray]:
    """Training images and test accuracy in % of each class (C,), means over the seeds; NaN without test images."""
    runs = list(group.runs.values())
    counts = np.array([[row.train_count for row in run.classes] for run in runs], dtype=float)
    accuracy = 100 * np.array([[row.accuracy for row in run.classes] for run in runs])
    seen = ~np.isnan(accuracy)
    total = np.where(seen, accuracy, 0).sum(0)
    return counts.mean(0), np.where(seen.any(0), total / np.maximum(seen.sum(0), 1), np.nan)


def by_frequency(rows: Sequence[ClassResult]) -> list[ClassResult]:
    """The classes, most training images first."""
    return sorted(rows, key=lambda row: -row.train_count)


def confusion_shares(rows: Sequence[ClassResult], cells: Cells, most: int) -> np.ndarray:
    """Row-normalised confusion (B, B), most frequent class first; more than ``most`` classes are summed into so many
    blocks. A row without test images stays 0."""
    size = len(rows)
    blocks = min(size, most)
    place = np.empty(size, dtype=int)
    place[[row.class_id for row in by_frequency(rows)]] = np.arange(size)
    matrix = np.zeros((blocks, blocks))
    np.add.at(matrix, (place[cells.true] * blocks // size, place[cells.predicted] * blocks // size), cells.count)
    return matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
