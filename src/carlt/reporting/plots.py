"""A run's plots, from its files. matplotlib without a screen, no torch."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from carlt.runs import paths
from carlt.runs.record import ClassResult, read_per_class

GROUP_COLOURS = {"many": "#0072b2", "medium": "#009e73", "few": "#d55e00"}  # Okabe and Ito
HEATMAP_CELLS = 200
"""Larger confusion matrices are summed into at most this many blocks per side."""


def draw_run(run_dir: Path) -> dict[str, Path]:
    """Draw every plot a run's files allow into ``plots/``; name to path."""
    return {"per_class": per_class(run_dir), "confusion": confusion(run_dir), "curves": curves(run_dir)}


def per_class(run_dir: Path) -> Path:
    """Test accuracy of each class, most frequent first, coloured by group, with the training counts behind."""
    rows = sorted(read_per_class(run_dir), key=lambda row: -row.train_count)
    figure, axes = _figure(10, 4)
    positions = np.arange(len(rows))
    for group, colour in GROUP_COLOURS.items():
        chosen = [i for i, row in enumerate(rows) if row.group == group]
        if chosen:
            axes.bar(
                positions[chosen], [100 * rows[i].accuracy for i in chosen], 0.85, color=colour, label=f"{group}-shot"
            )
    axes.set(
        ylim=(0, 100), ylabel="test accuracy (%)", xlabel="class, most training images first", title="Accuracy by class"
    )
    axes.margins(x=0.01)
    _class_ticks(axes, rows)
    counts = axes.twinx()
    counts.plot(positions, [row.train_count for row in rows], color="#444444", lw=1.2, label="training images")
    counts.set(yscale="log", ylabel="training images (log)")
    handles = axes.get_legend_handles_labels()[0] + counts.get_legend_handles_labels()[0]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return _save(figure, run_dir, "per_class.png")


def compare_classes(methods: Mapping[str, Sequence[Path]], path: Path) -> Path:
    """Test accuracy of each class under several methods, mean over their run folders with the range as a whisker.

    The labels are the keys of ``methods``, so no two methods share a bar.
    """
    figure, axes = _figure(10, 4)
    first = read_per_class(next(iter(methods.values()))[0])
    order = sorted(range(len(first)), key=lambda i: -first[i].train_count)
    width = 0.8 / len(methods)
    for k, (label, folders) in enumerate(methods.items()):
        accuracy = 100 * np.array([[row.accuracy for row in read_per_class(folder)] for folder in folders])[:, order]
        mean = accuracy.mean(0)
        whisker = np.abs(np.stack([accuracy.min(0), accuracy.max(0)]) - mean)
        x = np.arange(len(order)) + (k - (len(methods) - 1) / 2) * width
        axes.bar(x, mean, width, yerr=whisker, capsize=2, error_kw={"lw": 0.8}, label=f"{label} (n = {len(folders)})")
    axes.set(ylim=(0, 105), ylabel="test accuracy (%)", xlabel="class, most training images first")
    axes.margins(x=0.01)
    _class_ticks(axes, [first[i] for i in order])
    figure.legend(loc="outside upper center", ncols=min(len(methods), 3), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


def confusion(run_dir: Path) -> Path:
    """Row-normalised test confusion, classes by training frequency, true classes down and predictions across."""
    from matplotlib.colors import PowerNorm

    with np.load(run_dir / paths.CONFUSION, allow_pickle=False) as cells:
        true, predicted, count, size = (cells[key] for key in ("true", "predicted", "count", "num_classes"))
    rows = sorted(read_per_class(run_dir), key=lambda row: -row.train_count)
    place = np.empty(int(size), dtype=int)
    place[[row.class_id for row in rows]] = np.arange(int(size))
    blocks = min(int(size), HEATMAP_CELLS)
    matrix = np.zeros((blocks, blocks))
    np.add.at(matrix, (place[true] * blocks // int(size), place[predicted] * blocks // int(size)), count)
    matrix /= np.maximum(matrix.sum(1, keepdims=True), 1)
    figure, axes = _figure(6.5, 5.5)
    # A square-root scale: on a linear one, small confusions with several classes are invisible.
    image = axes.imshow(100 * matrix, cmap="magma", norm=PowerNorm(0.5, 0, 100), interpolation="nearest")
    figure.colorbar(image, label="% of the true class")
    axes.set(xlabel="predicted class", ylabel="true class", title="Test confusion, most frequent class first")
    if size <= 20:
        names = [row.class_name for row in rows]
        axes.set_xticks(range(int(size)), names, rotation=90, fontsize=8, parse_math=False)
        axes.set_yticks(range(int(size)), names, fontsize=8, parse_math=False)
        for i, j in np.argwhere(matrix >= 0.005):
            axes.text(j, i, f"{100 * matrix[i, j]:.0f}", ha="center", va="center", fontsize=7,
                      color="black" if matrix[i, j] > 0.4 else "white")  # fmt: skip
    return _save(figure, run_dir, "confusion.png")


def curves(run_dir: Path) -> Path:
    """Loss, accuracy of all and of the worst class on training batches and validation, and CAR, over the epochs."""
    with open(run_dir / paths.METRICS, newline="") as file:
        rows = list(csv.DictReader(file))
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
        "CAR": {"car/spectral_norm": "spectral norm", "car/ema_gap": "EMA gap"},
    }
    known = set(rows[0]) if rows else set()
    panels = {title: lines for title, lines in panels.items() if known & set(lines)}
    figure, axes = _figure(4.2 * max(len(panels), 1), 3.2, max(len(panels), 1))
    for axis, (title, lines) in zip(np.atleast_1d(axes), panels.items(), strict=False):
        for name, label in lines.items():
            points = [(int(float(row["epoch"])) + 1, float(row[name])) for row in rows if row.get(name)]
            if points:
                x, y = zip(*points, strict=True)
                scale = 100 if "%" in title else 1
                axis.plot(x, [scale * value for value in y], marker="." if len(x) < 15 else None, label=label, lw=1.5)
        axis.set(title=title, xlabel="epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(fontsize=8, frameon=False)
    return _save(figure, run_dir, "curves.png")


def _class_ticks(axes: Any, rows: Sequence[ClassResult]) -> None:
    """Write class names and numbers of training images below the bars, where there is room."""
    if len(rows) <= 40:
        labels = [f"{row.class_name}\nn = {row.train_count}" for row in rows]
        axes.set_xticks(range(len(rows)), labels, rotation=0 if len(rows) <= 12 else 90, fontsize=8, parse_math=False)


def _figure(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # not pyplot: no global state, no screen

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns)


def _save(figure: Any, run_dir: Path, name: str) -> Path:
    path = run_dir / "plots" / name
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=130)
    return path
