"""An overview of a data set: a table of its splits and the number of images of each class."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from carlt.data.images import Splits
from carlt.functional.accuracy import class_groups
from carlt.runs.text import counted, printable
from carlt.shots import (
    FEW_BELOW,
    GROUP_COLOURS,
    GROUPS,
    MANY_ABOVE,
    describe_thresholds,
    evenly_spaced,
    group_of,
)

BARS = 25


def summary(name: str, splits: Splits) -> str:
    """A table: images, classes, smallest and largest class and many / medium / few of each split."""
    lines = [
        f"{name}: {splits.num_classes} classes",
        f"{'':8}{'images':>9}{'classes':>9}{'smallest':>10}{'largest':>9}",
    ]
    for label, split in (("train", splits.train), ("val", splits.val), ("test", splits.test)):
        if split is None:
            lines.append(f"{label:8}{'-':>9}")
            continue
        counts = split.targets.bincount(minlength=splits.num_classes)
        lines.append(f"{label:8}{len(split):9,}{(counts > 0).sum():9,}{counts.min():10,}{counts.max():9,}")
    groups = {group: int(mask.sum()) for group, mask in class_groups(splits.class_counts).items()}
    lines.append(f"{describe_thresholds()}: " + " / ".join(map(str, groups.values())))
    lines += [text] if (text := printable(splits.untested())) else []
    return "\n".join(lines)


def profile_bars(splits: Splits, width: int = 50) -> str:
    """The training images of up to ``BARS`` evenly spaced classes, most frequent first, as bars of text."""
    counts, classes = splits.class_counts.sort(descending=True)
    shown = evenly_spaced(len(counts), BARS)
    names = {i: printable(splits.class_names[classes[i]])[:24] for i in shown}
    longest = max(map(len, names.values()))
    return "\n".join(
        f"{names[i]:{longest}} {counts[i]:6,} " + "█" * max(1, round(width * int(counts[i]) / max(int(counts[0]), 1)))
        for i in shown
    )


def draw_profile(name: str, splits: Splits, path: Path) -> None:
    """Training images over classes, sorted, on a logarithmic scale and coloured by group, as a PNG at ``path``."""
    counts = splits.class_counts.sort(descending=True).values.numpy()
    figure = Figure(figsize=(6.6, 3.4), layout="constrained")
    axes = figure.subplots()
    groups = np.array([group_of(int(count)) for count in counts])
    for group in GROUPS:
        (places,) = np.nonzero(groups == group)
        if len(places):
            classes, images = counted(len(places), "class", "classes"), counted(int(counts[places].sum()), "image")
            label = f"{group}-shot: {classes}, {images}"
            axes.bar(places + 1, counts[places], width=1, color=GROUP_COLOURS[group], label=label)
    for threshold, text in ((MANY_ABOVE, f"many-shot: > {MANY_ABOVE}"), (FEW_BELOW, f"few-shot: < {FEW_BELOW}")):
        axes.axhline(threshold, color="black", linewidth=0.8, linestyle="--")
        axes.annotate(text, (1, threshold), (3, 2), xycoords=("axes fraction", "data"), va="center",
                      textcoords="offset points", fontsize=8, annotation_clip=False)  # fmt: skip
    axes.set(
        yscale="log",
        ylim=(0.7, 1.4 * max(int(counts.max()), MANY_ABOVE)),
        xlabel="classes, most frequent first",
        ylabel="training images",
        title=f"{name}: {sum(counts):,} images, {len(counts):,} classes",
    )
    axes.margins(x=0.01)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower center", ncols=1, fontsize=8, frameon=False)
    figure.savefig(path, dpi=150)
