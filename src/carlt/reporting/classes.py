"""The classes of a group over its seeds."""

import numpy as np

from carlt.reporting.groups import Group


def mean_accuracy(group: Group) -> tuple[np.ndarray, np.ndarray]:
    """Training images and test accuracy in % of each class (C,), means over the seeds; NaN without test images."""
    runs = list(group.runs.values())
    counts = np.array([[row.train_count for row in run.classes] for run in runs], dtype=float)
    accuracy = 100 * np.array([[row.accuracy for row in run.classes] for run in runs])
    seen = ~np.isnan(accuracy)
    total = np.where(seen, accuracy, 0).sum(0)
    return counts.mean(0), np.where(seen.any(0), total / np.maximum(seen.sum(0), 1), np.nan)
