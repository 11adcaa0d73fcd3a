"""Confusion matrices as heat maps, ordered by class frequency, and the most confused pairs by name."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from carlt.reporting.classes import by_frequency, confusion_shares
from carlt.reporting.figures.style import NAME_LETTERS, Figure, Listing, PlottedGroups, canvas, svg, wrapped
from carlt.reporting.groups import Group
from carlt.runs.reading import Cells
from carlt.runs.record import ClassResult
from carlt.runs.text import shortened
from carlt.shots import evenly_spaced

BLOCKS = 100
"""Matrices with more classes are summed into this many blocks per side."""
METHODS = 3
NAMED = 15
"""Up to this number of classes the axes name them."""
PAIRS = 10


def heat_maps(shown: PlottedGroups, name: str) -> Figure:
    """Confusion of the baseline and the best others, all seeds together."""
    groups = shown.ranked()[:METHODS]
    matrices = [shares(group) for group in groups]
    size = len(groups[0].classes)
    with canvas(3.3 * len(groups) + 1.1, 3.5, len(groups)) as (figure, axes):
        figure.set_layout_engine("compressed")  # the layout for panels of a fixed shape
        image = None
        for axis, group, matrix in zip(axes, groups, matrices, strict=True):
            image = _heat_map(axis, 100 * matrix)
            axis.set_title(wrapped(group.label, 36), fontsize=8.5)
            axis.set_xlabel("predicted class")
            heat_map_ticks(axis, group, len(matrix), named=axis is axes[0])
        axes[0].set_ylabel("true class")
        figure.colorbar(image, ax=axes, label="% of the true class", shrink=0.85)
        drawn = svg(figure, name)
    per_block = (
        f"Each pixel is the sum of about {size / BLOCKS:.0f} x {size / BLOCKS:.0f} classes. " if size > BLOCKS else ""
    )
    left = len(shown.groups) - len(groups)
    others = f"Drawn: the baseline and the best {METHODS - 1} others by overall accuracy. " if left > 0 else ""
    return Figure(
        "Confusion",
        "Most frequent class first: each row is a true class, each column a predicted class. Rare classes predicted as "
        f"frequent ones appear at the lower left. {per_block}The colour scale is a square root, so that "
        f"small shares are visible. {others}Below: the pairs confused most, with "
        "their training images and the share of the true class's test images.",
        "Heat maps of the confusion matrix; most confused: "
        + "; ".join(f"{group.label}: {_sentence(group)}" for group in groups),
        drawn,
        [Listing(group.label, ("true class", "predicted class", "share"), _pairs(group)) for group in groups],
    )


def _cells(group: Group, seeds: Sequence[int] | None = None) -> Cells:
    """The non-zero cells over ``seeds`` (default: all)."""
    size = len(group.classes)
    all_cells = [run.confusion for seed, run in group.runs.items() if seeds is None or seed in seeds]
    flat = np.concatenate([cells.true.astype(np.int64) * size + cells.predicted for cells in all_cells])
    cell, place = np.unique(flat, return_inverse=True)
    count = np.bincount(place, np.concatenate([cells.count for cells in all_cells]), minlength=len(cell))
    return Cells(cell // size, cell % size, count)


def shares(group: Group, seeds: Sequence[int] | None = None) -> np.ndarray:
    """``confusion_shares`` over ``seeds`` (default: all)."""
    return confusion_shares(group.classes, _cells(group, seeds), BLOCKS)


def _heat_map(axis: Any, percent: np.ndarray) -> Any:
    from matplotlib.colors import PowerNorm

    image = axis.imshow(percent, cmap="magma", norm=PowerNorm(0.5, 0, 100), interpolation="nearest", aspect="equal")
    for spine in axis.spines.values():
        spine.set_visible(False)
    if len(percent) <= NAMED:
        for i, j in np.argwhere(percent >= 0.5):
            axis.text(j, i, f"{percent[i, j]:.0f}", ha="center", va="center", fontsize=6.5,
                      color="black" if percent[i, j] > 40 else "white")  # fmt: skip
    return image


def heat_map_ticks(axis: Any, group: Group, blocks: int, named: bool) -> None:
    """Class names where there are few classes, otherwise numbers of training images."""
    rows = by_frequency(group.classes)
    if len(rows) <= NAMED:
        names = [shortened(row.class_name, NAME_LETTERS) for row in rows]
        axis.set_xticks(range(len(rows)), names, rotation=90, fontsize=7.5)
        axis.set_yticks(range(len(rows)), names if named else [], fontsize=7.5)
        return
    places = np.array(evenly_spaced(len(rows), 5))
    labels = [f"{rows[i].train_count:,}" for i in places]
    at = (places + 0.5) * blocks / len(rows) - 0.5
    axis.set_xticks(at, labels, fontsize=7.5)
    axis.set_yticks(at, labels if named else [], fontsize=7.5)
    axis.set_xlabel("predicted class (training images)")


def _most_confused(group: Group) -> list[tuple[ClassResult, ClassResult, float, int]]:
    """The pairs of true and predicted class with the largest share of the true class's images, and the images."""
    rows = group.classes
    cells = _cells(group)
    true, predicted, count = cells.true, cells.predicted, cells.count
    total = np.bincount(true, count, minlength=len(rows))
    wrong = true != predicted
    true, predicted, count = true[wrong], predicted[wrong], count[wrong]
    share = count / total[true]
    first = np.lexsort((-count, -share))[:PAIRS]
    return [(rows[true[k]], rows[predicted[k]], float(share[k]), int(total[true[k]])) for k in first]


def _pairs(group: Group) -> list[list[str]]:
    return [
        [
            f"{a.class_name} ({a.train_count:,})",
            f"{b.class_name} ({b.train_count:,})",
            f"{100 * share:.0f} % of {total:,}",
        ]
        for a, b, share, total in _most_confused(group)
    ]


def _sentence(group: Group) -> str:
    return ", ".join(
        f"{a.class_name} predicted as {b.class_name} ({100 * s:.0f} %)" for a, b, s, _ in _most_confused(group)[:3]
    )
