"""``python -m carlt.prepare data=<set> [data.root=<folder>] [verify=full]``: fetch, check and picture a data set."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carlt.errors import CarltError, exit_with

if TYPE_CHECKING:
    from carlt.data import LongTailDataModule
    from carlt.data.images import Splits
    from carlt.training.module import LongTailClassifier

USAGE = """usage: python -m carlt.prepare data=<set> [data.root=<folder>] [verify=lists|files|full] [key=value ...]
       python -m carlt.prepare data=<set> aug=<augmentation> [loss=bcl] show=augmentations

Fetch what may be fetched, say where to get the rest, check everything, and show the profile.
With show=augmentations, draw a sheet of what training sees instead: views, and mixed images with their soft labels.
  data       the data set; its keys are those of carlt.train (data.root, data.imbalance_factor, ...)
  verify     files (default): every image exists; full: every image decodes, in parallel; lists: neither
"""
BARS = 25


def prepare(data: "LongTailDataModule", verify: str = "files") -> "Splits":
    """Make ``data`` ready: downloads, checks, a printed summary and ``<name>_profile.png`` in its root.

    Raises:
        CarltError: something is missing, damaged, or not as published.
    """
    for download in data.downloads():
        if download.result.exists():
            print(f"there already: {download.result}")
        else:
            print(f"fetching {download.url}")
            _obtain(download)
            print(f"  -> {download.result}")
    if hasattr(data, "verify"):
        data.verify = verify
    splits = data.splits
    print(summary(data.name, splits))
    print(profile(splits))
    if verify == "full":
        print("every image of these splits decodes")
    root = getattr(data, "root", None)
    if root:
        picture = Path(root) / f"{data.name}_profile.png"
        try:
            draw(data.name, splits, picture)
            print(f"profile drawn in {picture}")
        except OSError as error:  # a shared, read-only root is no mistake
            print(f"profile not drawn: {picture} cannot be written ({error.strerror})")
    return splits


def show_augmentations(data: "LongTailDataModule", module: "LongTailClassifier") -> Path:
    """Draw what training sees as ``<name>_augmentations.png`` in the data's root, or here if it has none."""
    from carlt.training import augmentation_grid as picture_sheet

    path = Path(getattr(data, "root", None) or ".") / f"{data.name}_augmentations.png"
    try:
        picture_sheet.draw(data, module, path)
    except OSError as error:
        raise CarltError(f"{path} cannot be written ({error.strerror})") from None
    print(f"drawn in {path}")
    return path


def summary(name: str, splits: "Splits") -> str:
    """A table: images, classes, smallest and largest class and many / medium / few of each split."""
    from carlt.functional.accuracy import class_groups

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
    lines.append("many / medium / few-shot classes (> 100, 20 to 100, < 20): " + " / ".join(map(str, groups.values())))
    return "\n".join(lines)


def profile(splits: "Splits", width: int = 50) -> str:
    """The training images of up to ``BARS`` evenly spaced classes, most frequent first, as bars of text."""
    counts, classes = splits.class_counts.sort(descending=True)
    shown = sorted({round(i * (len(counts) - 1) / max(BARS - 1, 1)) for i in range(BARS)})
    longest = max(len(splits.class_names[classes[i]][:24]) for i in shown)
    return "\n".join(
        f"{splits.class_names[classes[i]][:24]:{longest}} {counts[i]:6,} "
        + "█" * max(1, round(width * int(counts[i]) / max(int(counts[0]), 1)))
        for i in shown
    )


def draw(name: str, splits: "Splits", path: Path) -> None:
    """Training images over classes, sorted, on a logarithmic scale, as a PNG at ``path``."""
    from matplotlib.figure import Figure

    from carlt.functional.accuracy import FEW_BELOW, MANY_ABOVE

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


def _obtain(download: Any) -> None:
    """Fetch with a progress bar where somebody watches."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from carlt.data.io.download import obtain

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=None)
        obtain(download, lambda there, total: bar.update(task, completed=there, total=total))


def main() -> None:
    """The command."""
    from carlt.config.overrides import compose_checked
    from carlt.config.schema import validate

    if not sys.argv[1:] or {"-h", "--help"} & set(sys.argv[1:]):
        print(USAGE)
        return
    logging.basicConfig(format="%(levelname)s: %(message)s")
    try:
        config = compose_checked("prepare", sys.argv[1:])
        validate(config)
        if config.verify not in ("lists", "files", "full"):
            raise CarltError(f"verify={config.verify}: choose from lists, files, full")
        if config.show not in ("profile", "augmentations"):
            raise CarltError(f"show={config.show}: choose from profile, augmentations")
        from carlt.training.build import build_data, build_module

        data = build_data(config)
        if config.show == "profile":
            prepare(data, config.verify)
        else:
            show_augmentations(data, build_module(config, data))
    except CarltError as error:
        exit_with("carlt.prepare", error)


if __name__ == "__main__":
    main()
