"""Curves over the epochs: loss, accuracy and the worst class, CAR's norm and gap, and where its gradient goes."""

from collections.abc import Mapping

import numpy as np

from carlt.reporting.figures.style import Figure, PlottedGroups, canvas, legend, share_or_positive, svg
from carlt.reporting.groups import Group

POINTS = 150
"""Epochs that a line has at most; of longer trainings every k-th is drawn."""
Panels = Mapping[str, tuple[str, float]]
TRAINING: Panels = {
    "training loss": ("train/loss", 1),
    "training batches, overall (%)": ("train_batches/accuracy", 100),
    "training batches, worst class (%)": ("train_batches/worst_class", 100),
    "validation, balanced (%)": ("val/balanced_accuracy", 100),
    "validation, worst class (%)": ("val/worst_class", 100),
}
CAR: Panels = {
    "spectral norm": ("car/spectral_norm", 1),
    "EMA gap": ("car/ema_gap", 1),
    "gradient norm, penalty / loss": ("gradient/ratio", 1),
    "penalty gradient, few-shot share (%)": ("gradient/penalty_few", 100),
    "loss gradient, few-shot share (%)": ("gradient/loss_few", 100),
}


def curves(shown: PlottedGroups, name: str) -> Figure | None:
    """Training curves with the worst class."""
    return _draw(
        shown,
        TRAINING,
        name,
        "Training curves",
        "Mean over the seeds, their range shaded. The worst class can stay near 0 % after the overall accuracy "
        "has converged. A worst class at 100 % in training and near 0 % on validation means that the network memorised "
        "it.",
    )


def car(shown: PlottedGroups, name: str) -> Figure | None:
    """CAR's own curves; None if no run used CAR."""
    return _draw(
        shown,
        CAR,
        name,
        "CAR diagnostics",
        "Spectral norm: the largest singular value of CAR's weighted running confusion matrix, which it pushes down. "
        "EMA gap: how far that running estimate is from the confusion of the whole training set, relative to it "
        "(0 is exact, 1 as far off as no estimate). Gradient norm: of the penalty at the logits, divided by that of "
        "the loss. The last two panels: the share of each gradient that goes to images of few-shot classes.",
    )


def _draw(shown: PlottedGroups, panels: Panels, name: str, title: str, reading: str) -> Figure | None:
    # A post-hoc method has the curves of the run that it adjusts.
    trained = [(group, style) for group, style in shown.styles() if not group.posthoc]
    series = {group.label: {key: _series(group, key) for key, _ in panels.values()} for group, _ in trained}
    present = {
        text: line for text, line in panels.items() if any(lines[line[0]] is not None for lines in series.values())
    }
    if not present:
        return None
    lines = [(group, style) for group, style in trained if any(s is not None for s in series[group.label].values())]
    last = max(run.result["epochs"] for group, _ in lines for run in group.runs.values())
    columns = min(len(present), 3)
    rows = -(-len(present) // columns)
    with canvas(2.6 * columns + 2.3, 2.5 * rows + 0.1, len(present), columns) as (figure, axes):
        for axis, (text, (key, scale)) in zip(axes, present.items(), strict=True):
            for group, style in lines:
                found = series[group.label][key]
                if found is None:
                    axis.plot([], [], label=group.label, **style)
                    continue
                epochs, values = found
                axis.plot(epochs, scale * values.mean(0), label=group.label, **style,
                          marker="." if len(epochs) < 12 else None)  # fmt: skip
                if len(values) > 1:
                    axis.fill_between(
                        epochs, scale * values.min(0), scale * values.max(0), color=style["color"], alpha=0.15, lw=0
                    )
            axis.set_title(text)
            axis.set_xlabel("epoch")
            share_or_positive(axis, percent=scale == 100)
            axis.set_xlim(0.5, last + 0.5)
            axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1, nbins=5)
        legend(figure, axes[0])
        drawn = svg(figure, name)
    return Figure(
        title, f"{reading} {shown.note}", f"Curves over the epochs of {', '.join(present)} for "
        + "; ".join(group.label for group, _ in lines), drawn,
    )  # fmt: skip


def _series(group: Group, key: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Epochs (E,) from 1 and values (seeds, E) where every seed that measured ``key`` has one; None without any."""
    found = [{int(row["epoch"]) + 1: row[key] for row in run.epochs if key in row} for run in group.runs.values()]
    found = [values for values in found if values]
    if not found:
        return None
    common = sorted(set.intersection(*(set(values) for values in found)))
    epochs = common[:: -(-len(common) // POINTS) or 1]
    if common and epochs[-1] != common[-1]:
        epochs.append(common[-1])
    return (np.array(epochs), np.array([[values[epoch] for epoch in epochs] for values in found])) if epochs else None
