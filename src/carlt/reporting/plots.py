"""The plots of one run, from its files, and of the classes under several; matplotlib without a screen, no torch."""

import functools
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from carlt.reporting import sheets
from carlt.reporting.classes import agreed, by_frequency, confusion_shares, mean_accuracy
from carlt.reporting.figures.style import NAME_LETTERS, LineStyle, share_or_positive
from carlt.reporting.fonts import families
from carlt.reporting.groups import Group
from carlt.runs import paths
from carlt.runs.examples import read_examples
from carlt.runs.reading import read_confusion
from carlt.runs.record import read_epochs, read_per_class
from carlt.runs.text import printable, shortened
from carlt.shots import GROUP_COLOURS

P = ParamSpec("P")
R = TypeVar("R")

PLOTS = "plots"
"""The folder of a run's plots."""
HEATMAP_CELLS = 200
"""Larger confusion matrices are summed into at most this many blocks per side."""
BARS = 60
"""Up to this many classes have a bar each; more are points, because thin bars vanish or form stripes."""


NAMED = 20
"""Up to this many classes, the axes of a confusion matrix name them."""
LETTERS = 110
"""Letters that fit side by side below a plot."""


def draw_run(run_dir: Path) -> dict[str, Path]:
    """Draw the plots of a run into ``plots/``; the paths by name."""
    drawn = {"per_class": per_class(run_dir), "confusion": confusion(run_dir), "curves": curves(run_dir)}
    return drawn | {kind.replace(" ", "_"): path for kind in sheets.KINDS if (path := sheet(run_dir, kind))}


def without_math(draw: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function that draws: ``$`` in names stays a dollar sign."""

    @functools.wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        import matplotlib as mpl

        rc: Any = {"text.parse_math": False, "font.family": "sans-serif", "font.sans-serif": families()}
        with mpl.rc_context(rc), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing")
            return draw(*args, **kwargs)

    return wrapped


@without_math
def per_class(run_dir: Path) -> Path:
    """Test accuracy of each class, most frequent first, coloured by group, with the training counts behind."""
    rows = by_frequency(read_per_class(run_dir))
    figure, axes = _figure(10, 4)
    positions = np.arange(len(rows))
    for group, colour in GROUP_COLOURS.items():
        chosen = [i for i, row in enumerate(rows) if row.group == group]
        if not chosen:
            continue
        heights = np.array([100 * rows[i].accuracy for i in chosen])
        x, style = positions[chosen], {"color": colour, "label": f"{group}-shot"}
        if len(rows) <= BARS:
            axes.bar(x, heights, 0.85, **style)
            axes.plot(x[heights == 0], heights[heights == 0], "x", color=colour, ms=5, clip_on=False)
            for place in x[np.isnan(heights)]:
                axes.text(place, 1, "no test images", rotation=90, ha="center", va="bottom", fontsize=8, color=colour)
        else:
            axes.plot(x, heights, ".", ms=4 if len(rows) <= 2000 else 2, alpha=0.7, mew=0, clip_on=False, **style)
            if not np.isnan(heights).all():
                axes.hlines(np.nanmean(heights), x[0] - 0.5, x[-1] + 0.5, color=colour)
    axes.set(
        ylim=(-2, 102),
        ylabel="test accuracy (%)",
        xlabel="class, most training images first (n: their number)",
        title="Accuracy by class"
        + (" (x: never correct)" if len(rows) <= BARS else " (one point per class; lines: mean of the group)"),
    )
    axes.margins(x=0.01)
    _class_ticks(axes, [row.class_name for row in rows], [row.train_count for row in rows])
    counts = axes.twinx()
    counts.plot(positions, [row.train_count for row in rows], color="#444444", lw=1.2, label="training images")
    counts.set(yscale="log", ylabel="training images (log)")
    counts.yaxis.set_major_formatter("{x:,.0f}")
    counts.yaxis.set_minor_formatter("")
    handles = axes.get_legend_handles_labels()[0] + counts.get_legend_handles_labels()[0]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return _save(figure, run_dir / PLOTS / "per_class.png")


@without_math
def compare_classes(groups: Sequence[Group], look: LineStyle, path: Path) -> Path:
    """Test accuracy of each class under several configurations, mean over their seeds with the range as a whisker.

    ``look`` is that of the other plots of a report: bars of broken lines are hatched.
    """
    figure, axes = _figure(10, 4)
    rows, counts = groups[0].classes, agreed(groups, lambda row: row.train_count)
    order = [row.class_id for row in by_frequency(rows)]
    width = 0.8 / len(groups)
    for k, group in enumerate(groups):
        accuracy = 100 * np.array([[row.accuracy for row in run.classes] for run in group.runs.values()])[:, order]
        mean = mean_accuracy(group)[1][order]
        whisker = np.abs(np.stack([accuracy.min(0), accuracy.max(0)]) - mean)
        x = np.arange(len(order)) + (k - (len(groups) - 1) / 2) * width
        style = look(group)
        colour, whole = style["color"], style["ls"] == "-"
        text = f"{printable(group.label)} (n = {len(group.runs)})"
        if len(order) <= BARS:
            axes.bar(x, mean, width, yerr=whisker, capsize=2, error_kw={"lw": 0.8}, label=text, ec=colour,
                     fc=colour if whole else "none", hatch=None if whole else "//////", lw=0.8)  # fmt: skip
            axes.plot(x[mean == 0], mean[mean == 0], "x", color=colour, ms=5, clip_on=False)
        else:
            axes.plot(x, mean, "o" if whole else "x", ms=3, alpha=0.6, color=colour, clip_on=False, label=text)
    axes.set(ylim=(-2, 105), ylabel="test accuracy (%)", xlabel="class, most training images first (n: their number)")
    axes.margins(x=0.01)
    _class_ticks(axes, [rows[i].class_name for i in order], [counts[i] for i in order])
    figure.legend(loc="outside upper center", ncols=min(len(groups), 3), frameon=False)
    return _save(figure, path, dpi=110)


@without_math
def confusion(run_dir: Path) -> Path:
    """Row-normalised test confusion, classes by training frequency, true classes down and predictions across."""
    from matplotlib.colors import PowerNorm

    rows = by_frequency(read_per_class(run_dir))
    matrix = confusion_shares(rows, read_confusion(run_dir, len(rows)), HEATMAP_CELLS)
    size, blocks = len(rows), len(matrix)
    figure, axes = _figure(6.5, 5.5)
    # A square-root scale: on a linear one small confusions with several classes are invisible.
    # In classes, not in blocks: a tick at 900 is the class with the 900th most training images.
    extent = (0.5, size + 0.5, size + 0.5, 0.5) if size > NAMED else None
    image = axes.imshow(100 * matrix, cmap="magma", norm=PowerNorm(0.5, 0, 100), interpolation="nearest", extent=extent)
    figure.colorbar(image, label="% of the true class")
    axes.set(xlabel="predicted class", ylabel="true class", title="Test confusion, most frequent class first")
    if size > NAMED:
        axes.set(xlabel="predicted class (rank by training images)", ylabel="true class (rank by training images)")
    if size > blocks:
        axes.set_title(f"Test confusion, most frequent class first\none cell: about {size / blocks:.1f} classes")
    if size <= NAMED:
        names = [shortened(row.class_name, NAME_LETTERS) for row in rows]
        axes.set_xticks(range(size), names, rotation=90, fontsize=8)
        axes.set_yticks(range(size), names, fontsize=8)
        for i, j in np.argwhere(matrix >= 0.005):
            axes.text(j, i, f"{100 * matrix[i, j]:.0f}", ha="center", va="center", fontsize=7,
                      color="black" if matrix[i, j] > 0.4 else "white")  # fmt: skip
    return _save(figure, run_dir / PLOTS / "confusion.png")


def curves(run_dir: Path) -> Path:
    """Loss, accuracy of all and of the worst class on training batches and validation, and CAR, over the epochs."""
    rows = read_epochs(run_dir / paths.METRICS)
    panels = {
        "loss": {"train/loss": "loss", "train/penalty": "weighted penalty"},
        "training batches (%)": {
            "train_batches/accuracy": "overall",
            "train_batches/few": "few-shot",
            "train_batches/worst_class": "worst class",
        },
        "validation accuracy (%)": {
            "val/balanced_accuracy": "balanced",
            "val/few": "few-shot",
            "val/worst_class": "worst class",
        },
        "CAR": {
            "car/spectral_norm": "spectral norm",
            "car/ema_gap": "EMA gap",
            "gradient/ratio": "gradient norm, penalty / loss",
        },
    }
    known = {name for row in rows for name in row}
    panels = {title: lines for title, lines in panels.items() if known & set(lines)}
    figure, axes = _figure(4.2 * max(len(panels), 1), 3.2, max(len(panels), 1))
    for axis, (title, lines) in zip(np.atleast_1d(axes), panels.items(), strict=False):
        for name, label in lines.items():
            points = [(row["epoch"] + 1, row[name]) for row in rows if name in row]
            if points:
                x, y = zip(*points, strict=True)
                scale = 100 if "%" in title else 1
                axis.plot(x, [scale * value for value in y], marker="." if len(x) < 15 else None, label=label, lw=1.5)
        axis.set(title=title, xlabel="epoch")
        share_or_positive(axis, percent="%" in title)
        axis.set_xlim(0.5, max((row["epoch"] for row in rows), default=0) + 1.5)
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axis.legend(fontsize=8, frameon=False)
    return _save(figure, run_dir / PLOTS / "curves.png")


@without_math
def sheet(run_dir: Path, kind: str) -> Path | None:
    """Wrong test images of the worst classes or of the most confused pairs; None where the run recorded none."""
    examples = read_examples(run_dir)
    rows = sheets.rows_of(examples, kind) if examples else []
    if not examples or not rows:
        return None
    columns = 2 * examples.captions.shape[1]
    figure, axes = _figure(1.35 * columns, 1.65 * len(rows) + 0.3, columns, len(rows))
    sheets.draw_rows(np.atleast_1d(axes).flatten().tolist(), examples, rows)
    figure.suptitle(f"{kind.capitalize()}; framed: the nearest training image", fontsize=9)
    return _save(figure, run_dir / PLOTS / f"{kind.replace(' ', '_')}.png")


def _class_ticks(axes: Any, names: Sequence[str], counts: Sequence[int | None]) -> None:
    """Name up to 40 classes and their training images below the bars, upright where the names are long."""
    if len(names) <= 40:
        names = [shortened(name, NAME_LETTERS) for name in names]
        upright = max(map(len, names)) > LETTERS // len(names) or len(names) > 12
        labels = [name if n is None else f"{name}\nn = {n}" for name, n in zip(names, counts, strict=True)]
        axes.set_xticks(range(len(names)), labels, rotation=90 if upright else 0, fontsize=8)


def _figure(width: float, height: float, columns: int = 1, rows: int = 1) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # not pyplot: no global state, no screen

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns)


def _save(figure: Any, path: Path, dpi: int = 130) -> Path:
    with paths.written_whole(path) as beside:
        figure.savefig(beside, dpi=dpi, format=path.suffix[1:])
    return path
