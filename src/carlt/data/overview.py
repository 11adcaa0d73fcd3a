"""An overview of a data set: a table of its splits and the number of images of each class."""

from pathlib import Path

from matplotlib.figure import Figure

from carlt.data.images import Splits
from carlt.functional.accuracy import class_groups
from carlt.shots import FEW_BELOW, MANY_ABOVE, describe_thresholds

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
    return "\n".join(lines)


def profile_bars(splits: Splits, width: int = 50) -> str:
    """The training images of up to ``BARS`` evenly spaced classes, most frequent first, as bars of text."""
    counts, classes = splits.class_counts.sort(descending=True)
    shown = sorted({round(i * (len(counts) - 1) / max(BARS - 1, 1)) for i in range(BARS)})
    longest = max(len(splits.class_names[classes[i]][:24]) for i in shown)
    return "\n".join(
        f"{splits.class_names[classes[i]][:24]:{longest}} {counts[i]:6,} "
        + "█" * max(1, round(width * int(counts[i]) / max(int(counts[0]), 1)))
        for i in shown
    )


def draw_profile(name: str, splits: Splits, path: Path) -> None:
    """Training images over classes, sorted, on a logarithmic scale, as a PNG at ``path``."""
    counts = splits.class_counts.sort(descending=True).values.numpy()
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.fill_between(range(len(counts)), counts, step="mid", alpha=0.6)
    for threshold in (MANY_ABOVE, FEW_BELOW):
        axes.axhline(threshold, color="grey", linewidth=0.8, linestyle="--")
    axes.set(
        yscale="log",
        xlabel="classes, most frequent first",
        ylabel="training images",
        title=f"{name}: {sum(counts):,} images",
    )
    figure.savefig(path, dpi=150)
