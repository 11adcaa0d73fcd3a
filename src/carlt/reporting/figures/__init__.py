"""The plots of a report: one module per kind, with a sentence on how to read it."""

from collections.abc import Callable, Sequence
from functools import partial

from carlt.reporting.figures import bound, calibration, classes, confusion, pairs, pictures, sensitivity, training
from carlt.reporting.figures.style import Figure, Listing, PlottedGroups, choose
from carlt.reporting.figures.worst_class import worst_class
from carlt.reporting.groups import DataSet, Group
from carlt.reporting.pairs import find_pairs
from carlt.reporting.published import Published

__all__ = ["Figure", "Listing", "drawings"]

PLOTS: dict[str, Callable[[PlottedGroups, str], Figure | None]] = {
    "class frequency": classes.frequency,
    "classes from best to worst": classes.from_best_to_worst,
    "confusion": confusion.heat_maps,
    "training curves": training.curves,
    "CAR": training.car,
    "the bound": bound.norm_and_worst_class,
    "reliability": calibration.reliability,
}


def drawings(
    data: DataSet, baseline: Group, prefix: str, published: Sequence[Published] = ()
) -> dict[str, Callable[[], Figure | None]]:
    """The plots of a data set by name; a plot is None where the records lack its data.

    ``prefix`` keeps the plots of one page apart from those of its other data sets.
    """
    shown = choose(data.groups, baseline)
    plots: dict[str, Callable[[], Figure | None]] = pairs.drawings(find_pairs(data.groups), shown.look, prefix)
    name = "worst class in training and on test"
    plots[name] = partial(worst_class, shown, published, f"{prefix} {name}")
    plots |= {name: partial(draw, shown, f"{prefix} {name}") for name, draw in PLOTS.items()}
    plots |= pictures.drawings(shown, prefix)
    for name, lines in sensitivity.sweeps(data.groups).items():
        title = f"sensitivity to {name}"
        plots[title] = partial(sensitivity.sensitivity, name, lines, baseline, shown.look, f"{prefix} {title}")
    return plots
