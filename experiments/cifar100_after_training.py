"""Finished networks adjusted by one offset per class, on validation images of CIFAR100-LT: cifar100_after_training.csv
and a figure of it.

    python experiments/cifar100_after_training.py <folder of CIFAR-100> <folder for states>

The networks are those of ``cifar100_validation.py`` without penalty, from the same folder. One that is missing is
trained first, in ten to twenty minutes. ``cifar100_lt.md`` says what was learned. Test images are never read.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from cifar100_validation import CLASSES, Trial, logits_of, parts, score, train, trained, validation_images
from csv_lines import read_lines, write_lines
from torch import Tensor

from carlt.functional import batch_confusion, class_margins, class_offsets, frequency_weights, without_prior

RESULTS = Path(__file__).with_suffix(".csv")
FIGURE = Path(__file__).parents[1] / "docs" / "images" / "cifar100_after_training.png"
LOSSES = ("ce", "balanced_softmax", "ldam_drw", "ride")
NAMES = dict(zip(LOSSES, ("cross-entropy", "balanced softmax", "LDAM-DRW", "RIDE"), strict=True))
TAUS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.25, 1.5)
MARGINS = (0.0, 4.0, 8.0, 10.0, 12.0, 14.0, 16.0, 20.0)


def main() -> None:
    """Adjust every network in every way, and write all rows anew: a minute on one core."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help="folder that holds cifar-100-python")
    parser.add_argument("states", type=Path, help="folder for the states of cifar100_validation.py")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.states.mkdir(parents=True, exist_ok=True)
    for loss in LOSSES:
        if not trained(given.states, loss).exists():
            train(Trial(loss), given.images, given.states)
    rows = [row for loss in LOSSES for row in adjusted(loss, given.images, given.states)]
    write_lines(RESULTS, rows)
    draw(read_lines(RESULTS))
    for row in rows:
        print(row)


def draw(rows: list[dict[str, str]]) -> None:
    """Overall over few-shot accuracy of each network: a curve over tau, and CAR's offsets as a star."""
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for number, loss in enumerate(LOSSES):
        at = {row["adjustment"]: (float(row["few"]), float(row["overall"])) for row in rows if row["loss"] == loss}
        curve = [at["none"], *(at[f"tau {tau:g}"] for tau in TAUS)]
        colour = f"C{number}"
        axes.plot(*zip(*curve, strict=True), color=colour, marker=".", lw=1, label=NAMES[loss])
        axes.plot(*at["none"], color=colour, marker="o", ms=8, mfc="white", ls="none")
        axes.plot(*at["class margin 12"], color=colour, marker="*", ms=16, mec="black", ls="none")
    for marker, face, edge, label in (
        ("o", "white", "black", "as trained"),
        (".", "grey", "grey", "logit adjustment, tau 0.1 to 1.5"),
        ("*", "grey", "black", "posthoc=car, from training images"),
    ):
        axes.plot([], [], marker=marker, mfc=face, mec=edge, ms=10, ls="none", label=label)
    axes.set(xlabel="accuracy of few-shot classes (%)", ylabel="overall accuracy (%)", ylim=(28, 44))
    axes.set_title("CIFAR100-LT, validation images, seed 0", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    figure.savefig(FIGURE, dpi=150)


def adjusted(loss: str, images: str, states: Path) -> list[dict[str, str | float]]:
    """The network as it is, and after each adjustment."""
    data, module = parts(Trial(loss), images)
    module.model.load_state_dict(torch.load(trained(states, loss), weights_only=True))
    counts, val, labels = data.class_counts, validation_images(data), data.splits.train.targets
    new, seen = logits_of(module, val), logits_of(module, data.splits.train)
    ways, steps = {"none": torch.zeros(CLASSES)}, {}
    for tau in TAUS:
        ways[f"tau {tau:g}"] = without_prior(torch.zeros(CLASSES), counts, tau)
    for margin in MARGINS:
        found = class_offsets(seen, labels, counts, class_margin=margin)
        way = f"class margin {margin:g}"
        ways[way], steps[way] = found.offset, found.steps if found.converged else "not converged"
    ways["least norm, class margin 12"] = least_norm(seen, labels, counts, 12.0)
    half = torch.rand(len(new), generator=torch.Generator().manual_seed(0)) < 0.5
    known = class_offsets(new[half], val.targets[half], counts, class_margin=0.0).offset
    rows = [
        {"loss": loss, "adjustment": way, "steps": steps.get(way, "")} | score(new + b, val.targets, counts)
        for way, b in ways.items()
    ]
    held_out = {way: ways[way] for way in ("none", "class margin 0", "class margin 12")} | {
        "from the other half": known
    }
    for way, b in held_out.items():
        row = {"loss": loss, "adjustment": f"{way}, half the images", "steps": ""}
        rows.append(row | score((new + b)[~half], val.targets[~half], counts))
    agreement = rank_agreement((seen, labels), (new, val.targets))
    return [{name: round(x, 2) if isinstance(x, float) else x for name, x in row.items()} | agreement for row in rows]


def least_norm(logits: Tensor, labels: Tensor, counts: Tensor, margin: float) -> Tensor:
    """The offsets with the least || Lambda C(z + b) ||_2 itself, by L-BFGS."""
    row_weight, margins = frequency_weights(counts).float()[:, None], class_margins(counts, margin).float()
    offset = torch.zeros(CLASSES, requires_grad=True)
    optimizer = torch.optim.LBFGS([offset], max_iter=500, line_search_fn="strong_wolfe")

    def norm() -> Tensor:
        optimizer.zero_grad()
        confusion, _ = batch_confusion(logits + offset, labels, margins)
        value = torch.linalg.matrix_norm(row_weight * confusion, 2)
        value.backward()
        return value

    optimizer.step(norm)
    return offset.detach() - offset.detach().mean()


def rank_agreement(train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Spearman's correlation of the sums of rows and columns of CAR's confusion of training images, and of their
    mistakes, with the mistakes of validation images."""
    soft, truth = batch_confusion(*train)[0], mistakes(*val)
    found = {}
    for name, one in (("soft", soft), ("hard", mistakes(*train))):
        for sums, axis in (("rows", 1), ("columns", 0)):
            ranks = torch.stack([m.sum(axis).argsort().argsort() for m in (one, truth)])
            found[f"{sums}_{name}"] = round(float(torch.corrcoef(ranks.double())[0, 1]), 2)
    return found


def mistakes(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of each class's images that each other class takes, (C, C)."""
    confusion = torch.zeros(CLASSES, CLASSES).index_put_((labels, logits.argmax(1)), torch.ones(()), accumulate=True)
    return confusion.fill_diagonal_(0) / torch.bincount(labels, minlength=CLASSES)[:, None]


if __name__ == "__main__":
    main()
