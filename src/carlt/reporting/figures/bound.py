"""The worst class of each run beside the norm that bounds it (carlt.functional.bound)."""

from collections.abc import Mapping

import numpy as np

from carlt.reporting.figures.style import DASHES, INK, Figure, Listing, PlottedGroups, canvas, hover, legend, svg
from carlt.reporting.groups import Group
from carlt.reporting.statistics import mean_and_std

MARKERS = dict(zip(map(str, DASHES), "osD^vP", strict=True))
PANELS = {"train/spectral_norm": "norm on the training split", "test/spectral_norm": "norm on the test split"}
TERMS = {
    "norm, train": "train/spectral_norm",
    "norm, test": "test/spectral_norm",
    "weighted error, train": "train/weighted_worst_error",
    "weighted error, test": "test/weighted_worst_error",
    "margin error, train (%)": "train/worst_margin_error",
    "margin error, test (%)": "test/worst_margin_error",
}
OF_CLASS = {"nu": ("nu", 1), "first term (%)": ("first_term", 100), "error (%)": ("error", 100),
            "remainder (%)": ("remainder", 100)}  # fmt: skip
"""The terms for the worst class, their keys in the record, and the factor to the shown unit."""


def norm_and_worst_class(shown: PlottedGroups, name: str) -> Figure | None:
    """The error of the worst test class over the norm, one point per run; None if no run recorded the norm."""
    groups = [group for group in shown.groups if group.values("test/spectral_norm")]
    if not groups:
        return None
    with canvas(9.2, 3.6, len(PANELS)) as (figure, axes):
        for axis, (metric, title) in zip(axes, PANELS.items(), strict=True):
            for group in groups:
                norms, worst = group.values(metric), group.values("test/worst_class")
                seeds = sorted(norms.keys() & worst.keys())
                x, y = [norms[seed] for seed in seeds], [100 - 100 * worst[seed] for seed in seeds]
                look = shown.look(group)
                axis.plot(x, y, MARKERS[str(look["ls"])], color=look["color"], ms=6, mew=1.3, clip_on=False,
                          mfc=look["color"] if look["ls"] == DASHES[0] else "none", label=group.label)  # fmt: skip
                hover(axis, x, y, [f"{group.label}, seed {seed}: norm {norms[seed]:.2f}" for seed in seeds])
            axis.set(ylim=(-2, 102), xlabel="|| Lambda C ||", title=title)
            axis.set_xlim(left=0)
            axis.grid(axis="y", color=INK, alpha=0.12, lw=0.6)
        axes[0].set_ylabel("error of the worst test class (%)")
        legend(figure, axes[0])
        drawn = svg(figure, name)
    return Figure(
        "The worst class and the norm that bounds it",
        "Each point is a run. C is the hard margin confusion of a split: the share of a class's images whose strongest "
        "rival comes within 0.1 logits of the true class; Lambda weighs rare classes up; both with the paper's values, "
        "whatever the run trained with. The paper bounds the error of a class by nu / lambda times the norm on the "
        "training split plus a term that grows with the network. Below: the norms, the largest weighted error "
        "|| C Lambda ||_1 and the largest margin error || C ||_1, means over the seeds; for the worst test class the "
        "first term, its error, and what remains for the second term. "
        f"{shown.note}",
        "Scatter plots of the worst class's test error over the norm: "
        + "; ".join(f"{group.label}: test norm {group.mean('test/spectral_norm'):.2f}" for group in groups),
        drawn,
        [
            Listing("norms and errors", ("configuration", *TERMS), [_terms(group) for group in groups]),
            Listing(
                "the worst test class", ("configuration", "lambda", *OF_CLASS), [_of_class(group) for group in groups]
            ),
        ],
    )


def _terms(group: Group) -> tuple[str, ...]:
    scale = {metric: 100 if "%" in text else 1 for text, metric in TERMS.items()}
    return group.label, *(_text([scale[m] * v for v in group.values(m).values()], scale[m]) for m in TERMS.values())


def _of_class(group: Group) -> tuple[str, ...]:
    recorded: list[Mapping[str, float | None]] = [run.result.get("bound") or {} for run in group.runs.values()]

    def text(key: str, scale: float) -> str:
        found = [scale * value for terms in recorded if isinstance(value := terms.get(key), int | float)]
        return _text(found, scale)

    return group.label, text("lambda", 1), *(text(key, scale) for key, scale in OF_CLASS.values())


def _text(values: list[float], scale: float) -> str:
    mean, deviation, n = mean_and_std(values)
    digits = 1 if scale == 100 else 2
    return "-" if not n else f"{mean:.{digits}f}" + ("" if np.isnan(deviation) else f" ± {deviation:.{digits}f}")
