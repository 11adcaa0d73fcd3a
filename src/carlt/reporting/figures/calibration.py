"""Reliability diagrams: accuracy against confidence."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from carlt.reporting.figures.style import INK, Figure, PlottedGroups, canvas, svg, wrapped
from carlt.reporting.groups import Group


def reliability(shown: PlottedGroups, name: str) -> Figure | None:
    """One diagram per method, with test and training split; None if no run recorded its bins."""
    found = [(group, style, bins) for group, style in shown.styles() if (bins := _bins(group, "test")) is not None]
    if not found:
        return None
    columns = min(len(found), 3)
    with canvas(3 * columns + 0.4, 3.2 * -(-len(found) // columns), len(found), columns) as (figure, axes):
        for axis, (group, style, test) in zip(axes, found, strict=True):
            axis.plot([0, 100], [0, 100], color=INK, lw=0.8, alpha=0.5)
            train = _bins(group, "train")
            if train is not None:
                axis.plot(*_points(train), color=style["color"], ls="", marker="o", ms=3, mew=0.7, mfc="none")
            confidence, accuracy = _points(test)
            axis.plot(confidence, accuracy, lw=1.6, **style)
            share = test["images"][test["images"] > 0] / test["images"].sum()
            axis.scatter(confidence, accuracy, s=8 + 160 * share, color=style["color"], alpha=0.75, lw=0)
            axis.set(xlim=(-2, 102), ylim=(-2, 102), xlabel="confidence (%)", aspect="equal")
            axis.set_title(f"{wrapped(group.label, 28)}\nECE {100 * group.mean('test/ece'):.1f} %", fontsize=8.5)
            axis.set_ylabel("accuracy (%)")
        drawn = svg(figure, name)
    lacking = len(shown.groups) - len(found)
    note = f"{lacking} without recorded bins left out. " if lacking else ""
    return Figure(
        "Reliability",
        "Images by the confidence of their prediction, all seeds together. Below the diagonal a method is "
        "overconfident. Filled: test split, larger where more images are; hollow: training split. "
        "ECE is the mean distance from the diagonal, weighted by images; the number is the mean over the seeds of each "
        f"run's own ECE, so it can exceed that of the pooled images drawn here. {shown.note}{note}",
        "Reliability diagrams: "
        + "; ".join(f"{group.label}: ECE {100 * group.mean('test/ece'):.1f} %" for group, *_ in found),
        drawn,
    )


def _bins(group: Group, split: str) -> dict[str, np.ndarray] | None:
    """Images, mean confidence and accuracy of each bin over the seeds that recorded them; None without any."""
    recorded: list[Mapping[str, Any]] = [
        bins for run in group.runs.values() if (bins := (run.result.get("calibration") or {}).get(split))
    ]
    recorded = [bins for bins in recorded if len(bins["images"]) == len(recorded[0]["images"])]
    if not recorded:
        return None
    images = np.array([bins["images"] for bins in recorded], dtype=float)
    total = np.maximum(images.sum(0), 1)
    means = {
        key: (images * np.nan_to_num(np.array([bins[key] for bins in recorded], dtype=float))).sum(0) / total
        for key in ("confidence", "accuracy")
    }
    return {"images": images.sum(0), **means}


def _points(bins: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    filled = bins["images"] > 0
    return 100 * bins["confidence"][filled], 100 * bins["accuracy"][filled]
