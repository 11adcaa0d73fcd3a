"""Accuracy per class of several methods: against class frequency, and sorted from best to worst."""

from typing import Any

import numpy as np

from carlt.reporting.classes import mean_accuracy
from carlt.reporting.figures.style import Figure, PlottedGroups, canvas, count_axis, hover, legend, percent_axis, svg
from carlt.reporting.groups import Group
from carlt.shots import FEW_BELOW, MANY_ABOVE

FEW_CLASSES = 40
"""Up to this many classes, each is a point on the line; above, a line shows means over classes of similar frequency."""
POINTS = 2000
"""Above this many classes, the points are left out: with few test images per class they form horizontal bars."""
BINS = 12
STEPS = 400


def frequency(shown: PlottedGroups, name: str) -> Figure:
    """Accuracy over training images, logarithmic."""
    with canvas(9, 3.9) as (figure, (axes,)):
        for group, style in shown.styles():
            counts, accuracy = mean_accuracy(group)
            order = np.argsort(-counts, kind="stable")
            order = order[~np.isnan(accuracy[order])]
            x, y = np.maximum(counts[order], 0.8), accuracy[order]
            if len(x) > FEW_CLASSES:
                if len(x) <= POINTS:
                    axes.plot(x, y, ".", ms=3, alpha=0.22, mew=0, color=style["color"], rasterized=True)
                x, y = binned(x, y)
            axes.plot(x, y, marker="o", ms=3.5, label=group.label, **style)
            if len(order) <= FEW_CLASSES:
                names = [group.classes[i].class_name for i in order]
                hover(axes, x, y, [f"{group.label}\n{n}: {a:.1f} %" for n, a in zip(names, y, strict=True)])
        count_axis_of_classes(axes)
        percent_axis(axes)
        axes.set(xlabel="training images of the class (frequent left, rare right)")
        few = np.nan_to_num([group.mean("test/few") for group in shown.groups])
        legend(figure, axes, np.argsort(-few, kind="stable").tolist())
        drawn = svg(figure, name)
    size = len(mean_accuracy(shown.baseline)[0])
    reading = "Each point is a class."
    if size > FEW_CLASSES:
        reading = f"Each line shows the mean accuracy over the classes in up to {BINS} ranges of frequency" + (
            "; the pale points are single classes." if size <= POINTS else "."
        )
    return Figure(
        "Accuracy against class frequency",
        f"{reading} A method that helps rare classes raises the right end; a loss on frequent classes lowers the left "
        f"end. {shown.note}Dotted: the borders of many, medium and few.",
        "Line plot of test accuracy over the number of training images of a class: "
        + "; ".join(_ends(group) for group in shown.groups),
        drawn,
    )


def sorted_accuracy(group: Group) -> np.ndarray:
    """Test accuracy in % by rank (C,), best first: sorted within each seed, then averaged over the seeds.

    The last value is therefore the mean worst class of the tables. Averaging first would hide that the worst class
    changes from seed to seed.
    """
    seeds = [np.array([row.accuracy for row in run.classes]) for run in group.runs.values()]
    ranked = [100 * np.sort(accuracy[~np.isnan(accuracy)])[::-1] for accuracy in seeds]
    size = min(map(len, ranked))
    return np.mean([accuracy[:size] for accuracy in ranked], axis=0) if size else np.array([])


def from_best_to_worst(shown: PlottedGroups, name: str) -> Figure:
    """Accuracy by rank, one line per method."""
    with canvas(9, 3.6) as (figure, (axes,)):
        areas = []
        for group, style in shown.styles():
            accuracy = sorted_accuracy(group)
            if not len(accuracy):
                continue
            places = np.unique(np.linspace(0, len(accuracy) - 1, STEPS).round().astype(int))
            axes.plot(places + 1, accuracy[places], label=group.label, **style,
                      marker="o" if len(accuracy) <= FEW_CLASSES else None, ms=3.5)  # fmt: skip
            if len(accuracy) <= FEW_CLASSES:
                texts = [f"{group.label}\nrank {k + 1}: {value:.1f} %" for k, value in enumerate(accuracy)]
                hover(axes, places + 1, accuracy, texts)
            areas.append(accuracy.mean())
        percent_axis(axes)
        axes.set(xlabel="rank of the class within its run, best first")
        axes.margins(x=0.01)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        legend(figure, axes, np.argsort(areas)[::-1].tolist())
        drawn = svg(figure, name)
    return Figure(
        "Classes from best to worst",
        "The classes of each run in the order of their accuracy, then the mean over the seeds at each rank. The right "
        "end is the mean worst class, as in the tables. Where a line is at zero, every run has a class with zero "
        f"accuracy at that rank; it may be another class in each seed. {shown.note}",
        "Line plot of the sorted test accuracies of the classes: " + "; ".join(_worst(group) for group in shown.groups),
        drawn,
    )


def binned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over ranges of equal width in log frequency, those that hold a class."""
    edges = np.geomspace(x.min(), x.max() * 1.0001, BINS + 1)
    place = np.clip(np.digitize(x, edges) - 1, 0, BINS - 1)
    used = np.unique(place)[::-1]
    return (
        np.array([np.exp(np.log(x[place == k]).mean()) for k in used]),
        np.array([y[place == k].mean() for k in used]),
    )


def count_axis_of_classes(axes: Any) -> None:
    """A logarithmic axis of training images, frequent classes left, with the borders of the groups."""
    count_axis(axes)
    _group_borders(axes)
    axes.invert_xaxis()


def _group_borders(axes: Any) -> None:
    low, high = sorted(axes.get_xlim())
    few, many = FEW_BELOW - 0.5, MANY_ABOVE + 0.5  # between two numbers of images
    for border in (few, many):
        if low < border < high:
            axes.axvline(border, color="#808080", lw=0.9, ls=":")
    for text, left, right in (("few", low, few), ("medium", few, many), ("many", many, high)):
        left, right = max(left, low), min(right, high)
        if right / left > 1.03:
            axes.text(np.sqrt(left * right), 1.01, text, transform=axes.get_xaxis_transform(), ha="center", va="bottom",
                      fontsize=8.5)  # fmt: skip


def _ends(group: Group) -> str:
    many, few = group.mean("test/many"), group.mean("test/few")
    return f"{group.label}: many {_percent(many)}, few {_percent(few)}"


def _worst(group: Group) -> str:
    accuracy = sorted_accuracy(group)
    if not len(accuracy):
        return f"{group.label}: no test images"
    zero = int((accuracy == 0).sum())
    return f"{group.label}: worst {_percent(accuracy[-1] / 100)}, zero in every seed at {zero} ranks"


def _percent(value: float) -> str:
    return "none" if np.isnan(value) else f"{100 * value:.0f} %"
