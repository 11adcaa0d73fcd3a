"""The picture of what an image folder holds: sizes, the rarest classes, and copies across splits."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from carlt.data.images import Splits
from carlt.data.inspection import NEAR_EMPTY, FolderInspection
from carlt.reporting.plots import without_math
from carlt.runs.text import printable
from carlt.shots import GROUP_COLOURS

RAREST = 15
NAME = 24
"""Letters of a class's name that fit."""
COLOURS = {"train": "#0072b2", "val": "#cc79a7", "test": "#e69f00"}


@without_math
def draw_files(name: str, found: FolderInspection, splits: Splits, image_size: int, path: Path) -> None:
    """Draw a PNG at ``path``: widths and heights, images of the rarest classes in each split, contents that occur
    more than once."""
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    sizes, classes, copies = figure.subplots(1, 3, width_ratios=[1, 1.2, 0.9])
    _draw_sizes(sizes, found, image_size)
    _draw_rarest(classes, splits)
    _draw_copies(copies, found)
    figure.suptitle(f"{name}: {len(found.sizes):,} readable images, {splits.num_classes:,} classes")
    figure.savefig(path, dpi=150)


def _draw_sizes(axes: Axes, found: FolderInspection, image_size: int) -> None:
    sizes, count = np.unique(found.sizes, axis=0, return_counts=True)
    if len(sizes):
        area = 12 + 120 * count / count.max()
        axes.scatter(sizes[:, 0], sizes[:, 1], s=area, color=COLOURS["train"], alpha=0.5, linewidths=0)
    for line in (axes.axvline, axes.axhline):
        line(image_size, color="black", linewidth=0.8, linestyle="--")
    axes.set(xscale="log", yscale="log", xlabel="width in pixels", ylabel="height in pixels",
             title=f"sizes (area: number of images;\ndashed: data.image_size={image_size})")  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
        axis.set_major_formatter("{x:,.0f}")
        axis.set_minor_formatter(NullFormatter())


def _draw_rarest(axes: Axes, splits: Splits) -> None:
    order = splits.class_counts.argsort(stable=True)[:RAREST].flip(0)
    left, places = np.zeros(len(order)), np.arange(len(order))
    for name, split in splits.named().items():
        counts = split.targets.bincount(minlength=splits.num_classes)[order].numpy()
        axes.barh(places, counts, left=left, color=COLOURS[name], label=name)
        left += counts
    for place, (label, end) in enumerate(zip(order.tolist(), left, strict=True)):
        count = int(splits.class_counts[label])
        colour = GROUP_COLOURS["few"] if count < NEAR_EMPTY else "black"
        axes.annotate(f"{count} to train on", (end, place), (3, 0), textcoords="offset points", va="center", fontsize=7,
                      color=colour)  # fmt: skip
    names = [printable(splits.class_names[label])[:NAME] for label in order.tolist()]
    axes.set_yticks(places, names, fontsize=7)
    axes.set(xlabel="images", title=f"the {len(order)} rarest classes")
    axes.set_xlim(0, 1.45 * max(left.max(initial=1), 1))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.legend(fontsize=8, frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.15))


def _draw_copies(axes: Axes, found: FolderInspection) -> None:
    rows = {
        "in two classes": len(found.contradictions),
        "in val and test": len(found.shared("val", "test")),
        "in train and test": len(found.shared("train", "test")),
        "in train and val": len(found.shared("train", "val")),
        "anywhere": len(found.copies),
    }
    bars = axes.barh(list(rows), list(rows.values()), color="0.6")
    axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8)
    axes.set(xlabel="contents that occur more than once", title="copies")
    axes.set_xlim(0, 1.2 * max(1, *rows.values()))
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
