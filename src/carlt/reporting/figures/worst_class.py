"""The worst class in training and on test, and the overall accuracy: the paper's figures 1 and 4."""

import math
from collections.abc import Sequence

import numpy as np

from carlt.reporting.figures.style import DASHES, INK, Figure, PlottedGroups, canvas, hover, svg, wrapped
from carlt.reporting.published import Published
from carlt.reporting.statistics import mean_and_std

BARS = {
    "train/worst_class": ("worst class, training split", "train", 0.35),
    "test/worst_class": ("worst class, test split", "test", 1.0),
    "test/accuracy": ("overall, test split", "overall", 0.65),
}
"""From top to bottom: the name, a short name, and how opaque the bar is."""
PUBLISHED = {"color": "#808080", "ls": DASHES[1]}
HEIGHT = 0.26


def worst_class(shown: PlottedGroups, published: Sequence[Published], name: str) -> Figure | None:
    """Three bars per configuration, and those of published rows that have a worst class; None without any."""
    theirs = [row for row in published if "test/worst_class" in row.values]
    if not any(group.values(metric) for group in shown.groups for metric in ("train/worst_class", "test/worst_class")):
        return None
    rows = [
        (group.label, {m: mean_and_std([100 * v for v in group.values(m).values()])[:2] for m in BARS}, look)
        for group, look in shown.styles()
    ] + [
        (f"{row.method} ({row.setting}), published", {m: (row.number(m), math.nan) for m in BARS}, PUBLISHED)
        for row in theirs
    ]
    with canvas(9.2, 1.0 + 0.62 * len(rows)) as (figure, (axis,)):
        for at, (label, values, look) in enumerate(rows):
            for k, (metric, (text, short, opacity)) in enumerate(BARS.items()):
                mean, deviation = values[metric]
                y = at + HEIGHT * (k - 1)
                if np.isnan(mean):
                    continue
                colour, whole = (look["color"], opacity), look["ls"] == DASHES[0]
                axis.barh(y, mean, 0.9 * HEIGHT, ec=colour, fc=colour if whole else "none", lw=1.2,
                          hatch=None if whole or look is PUBLISHED else "//////")  # fmt: skip
                spread = f" ± {deviation:.1f}" if not np.isnan(deviation) else ""
                axis.annotate(f"{short} {mean:.1f}{spread}", (mean, y), (3, 0), textcoords="offset points", va="center",
                              fontsize=7.5)  # fmt: skip
                hover(axis, [mean], [y], [f"{label}: {text} {mean:.1f} %"])
        axis.set_yticks(range(len(rows)), [wrapped(label, 34) for label, *_ in rows], fontsize=8.5)
        axis.set(ylim=(len(rows) - 0.45, -0.55), xlim=(0, 118), xlabel="accuracy (%)")
        axis.set_xticks(range(0, 101, 20))
        axis.grid(axis="x", color=INK, alpha=0.12, lw=0.6)
        drawn = svg(figure, name)
    grey = "Grey: published by others, not measured here; their sources are below the tables. " if theirs else ""
    return Figure(
        "The worst class in training and on test",
        "Top bar: lowest class accuracy on the training split (evaluated without augmentation); middle: lowest class "
        "accuracy on the test split, which may be that of another class; bottom: overall accuracy on the test split. "
        "Filled without, hatched with a regularizer; means over the seeds ± standard deviation. The gap between the "
        f"first two is that of the paper's figures 1 and 4. {grey}{shown.note}",
        "Bars: " + "; ".join(f"{label}: {_sentence(values)}" for label, values, _ in rows),
        drawn,
    )


def _sentence(values: dict[str, tuple[float, float]]) -> str:
    return ", ".join(f"{BARS[m][0]} {mean:.1f} %" for m, (mean, _) in values.items() if not np.isnan(mean))
