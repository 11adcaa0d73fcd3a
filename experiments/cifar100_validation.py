"""Variants of CAR on validation images of CIFAR100-LT: one line per trial in cifar100_validation.csv.

    python experiments/cifar100_validation.py <folder of CIFAR-100> <folder for states> [trial ...]

Without names it runs the trials that the file lacks, so the same command goes on where it stopped. A trial takes ten
minutes on one core, and four where it shares the first 18 of 30 epochs with the trial without a penalty, whose state is
kept. ``cifar100_lt.md`` says what was learned. Test images are never read: up to 100 unused training images per class validate.
"""  # noqa: E501

import argparse
import math
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from csv_lines import append_line, read_lines
from torch import Tensor
from torch.nn import functional as F

from carlt.config.overrides import compose_checked
from carlt.data import LongTailDataModule
from carlt.data.images import Split
from carlt.data.subsets import rank_images
from carlt.errors import CarltError
from carlt.functional.prior import frequency_weights, logit_adjustment, relative_frequency
from carlt.protocols import FollowsProgress
from carlt.runs.provenance import commit
from carlt.training import build
from carlt.training.module import LongTailClassifier
from carlt.training.optim import lr_factor

RESULTS = Path(__file__).with_suffix(".csv")
CLASSES, VAL_PER_CLASS = 100, 100
EPOCHS, WARMUP, LR, DECAY, BRANCH = 30, 3, 0.1, 5e-4, 18
Gate = Literal["cross_entropy", "constant_rival", "logistic"]


@dataclass(frozen=True)
class Trial:
    """A loss of carlt, and what acts beside it from epoch ``start`` on: a penalty, or CAR's class offsets."""

    loss: str
    weight: float = 0.0  # of the penalty divided by sqrt(C) and the mean of lambda
    gate: Gate = "cross_entropy"
    prior: float = 0.0  # the penalty sees z + prior * log pi
    gradient: Literal["class", "batch"] = "class"  # as CAR's, but "batch" without the factor 1 - beta
    spectral: bool = True  # False: u and v are constant, so the penalty is a class mean
    most: float = math.inf  # weight of a sample of the penalty at most, in units of its weight in the loss
    offsets: dict[str, float] = field(default_factory=dict)  # of CAR, where it has any
    start: int = BRANCH


TRIALS = {
    "ce": Trial("ce"),
    "bs": Trial("balanced_softmax"),
    "bs, cross-entropy gate, 0.5": Trial("balanced_softmax", 0.5),
    "ce, cross-entropy gate, 0.5": Trial("ce", 0.5),
    "ce, cross-entropy gate, prior, 2": Trial("ce", 2.0, prior=1.0),
    "bs, cross-entropy gate, 2": Trial("balanced_softmax", 2.0),
    "bs, cross-entropy gate, by batch, 2": Trial("balanced_softmax", 2.0, gradient="batch"),
    "ce, cross-entropy gate, prior, by batch, 1": Trial("ce", 1.0, prior=1.0, gradient="batch"),
    "bs, class mean instead of norm, by batch, 2": Trial("balanced_softmax", 2.0, gradient="batch", spectral=False),
    "bs, logistic gate, 0.5": Trial("balanced_softmax", 0.5, "logistic"),
    "bs, logistic gate, 0.03": Trial("balanced_softmax", 0.03, "logistic", most=4),
    "ce, logistic gate, prior, 0.05": Trial("ce", 0.05, "logistic", prior=1.0, most=4),
    "bs, cross-entropy gate, constant rival, 1": Trial("balanced_softmax", 1.0, "constant_rival", most=30),
    "ce, offsets, margin 4": Trial("ce", offsets={"margin": 4.0}),
    "ce, offsets, margin 4, from the first epoch": Trial("ce", offsets={"margin": 4.0}, start=0),
    "ldam_drw": Trial("ldam_drw"),
    "ride": Trial("ride"),
    "ce, offsets, class margin 12": Trial("ce", offsets={"margin": 0.0, "class_margin": 12.0}),
    "ride, offsets, class margin 12": Trial("ride", offsets={"margin": 0.0, "class_margin": 12.0}),
    "bs, offsets, class margin 12": Trial("balanced_softmax", offsets={"margin": 0.0, "class_margin": 12.0}),
    "ldam_drw, offsets, class margin 12": Trial("ldam_drw", offsets={"margin": 0.0, "class_margin": 12.0}),
}
"""In the order in which they ran; the last two have not been run yet."""


def main() -> None:
    """Run the trials that are named, or those that have no line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help="folder that holds cifar-100-python")
    parser.add_argument("states", type=Path, help="folder for the states after epoch 18")
    parser.add_argument("trials", nargs="*", help="by name")
    given = parser.parse_args()
    if unknown := [name for name in given.trials if name not in TRIALS]:
        parser.error(f"no trial {unknown[0]!r}; choose from " + "; ".join(TRIALS))
    torch.set_num_threads(1)
    given.states.mkdir(parents=True, exist_ok=True)
    done = {row["trial"] for row in read_lines(RESULTS)}
    for name in given.trials or [name for name in TRIALS if name not in done]:
        try:
            row = {"trial": name} | train(TRIALS[name], given.images, given.states)
        except CarltError as error:
            sys.exit(str(error))
        append_line(RESULTS, row)
        print(row, flush=True)


def train(trial: Trial, images: str, states: Path) -> dict[str, Any]:
    """One trial with seed 0: what it reaches on the validation images and on the training images."""
    began = time.perf_counter()
    data, module = parts(trial, images)
    counts, val = data.class_counts, validation_images(data)
    optimizer = torch.optim.SGD(module.parameters(), LR, momentum=0.9, weight_decay=DECAY)
    penalty, log_prior = Penalty(trial, counts), logit_adjustment(counts).float()
    loader, first = data.train_dataloader(), 0
    plain = trial == Trial(trial.loss)
    state = states / f"{trial.loss}.pt"
    if not plain and trial.start >= BRANCH and state.exists():
        saved = torch.load(state, weights_only=True)
        module.model.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        first = BRANCH
    for epoch in range(first, EPOCHS):
        loader.set_epoch(epoch)
        if isinstance(module.loss, FollowsProgress):
            module.loss.set_progress(epoch / EPOCHS)
        for step, batch in enumerate(loader):
            for group in optimizer.param_groups:
                group["lr"] = LR * lr_factor(epoch + step / len(loader), EPOCHS, "cosine", WARMUP)
            with torch.autocast("cpu", torch.bfloat16):
                output = module._compute_loss(*module.mixed(batch), batch)
            logits, extra = output.logits.float(), torch.zeros(())
            if epoch >= trial.start and trial.offsets:
                extra = module.reg(logits, batch.labels)
            elif epoch >= trial.start and trial.weight:
                extra = trial.weight * penalty(logits, batch.labels)
            optimizer.zero_grad()
            (output.loss + extra).backward()
            optimizer.step()
        if epoch + 1 == BRANCH and plain:
            torch.save({"network": module.model.state_dict(), "optimizer": optimizer.state_dict()}, state)
    if plain:
        torch.save(module.model.state_dict(), trained(states, trial.loss))
    row = evaluate(module, counts, val)
    row |= {f"train_{name}": value for name, value in evaluate(module, counts, data.splits.train).items()}
    adjusted = {tau: evaluate(module, counts, val, tau * log_prior) for tau in (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)}
    tau = max(adjusted, key=lambda tau: adjusted[tau]["overall"])
    row |= {"tau": tau} | {f"adjusted_{name}": adjusted[tau][name] for name in ("overall", "many", "few")}
    row = {name: round(value, 2) for name, value in row.items()}
    return row | {"minutes": round((time.perf_counter() - began) / 60, 1), "commit": (commit() or "")[:7]}


def trained(states: Path, loss: str) -> Path:
    """Where the finished network without penalty is kept, for cifar100_after_training.py."""
    return states / f"{loss}_trained.pt"


def parts(trial: Trial, images: str) -> tuple[LongTailDataModule, LongTailClassifier]:
    """The data, and the network with its loss; with offsets, CAR is its regularizer."""
    torch.manual_seed(0)
    values = [
        "data=cifar100_lt", f"data.root={images}", "data.official=false", "data.largest_class=475",
        "data.val_per_class=1", "model=resnet32",
        f"loss={trial.loss}", "channels_last=true", "reg=car_offsets" if trial.offsets else "reg=none",
        *(f"reg.{name}={value}" for name, value in trial.offsets.items()),
    ]  # fmt: skip
    config = compose_checked("train", values)
    data = build.build_data(config)
    return data, build.build_module(config, data).train()


def validation_images(data: Any) -> Split:
    """Up to VAL_PER_CLASS images of each class that the long tail leaves unused; class 0 has 25."""
    pool, _, _ = data._from_archive()
    orders = rank_images(pool.targets, CLASSES, data.subset)
    kept = zip(orders, data.class_counts.tolist(), strict=True)
    return pool.subset(torch.cat([order[n:][:VAL_PER_CLASS] for order, n in kept]))


class Penalty:
    """The spectral norm of a debiased running confusion with held rows, for gates that carlt does not have."""

    def __init__(self, trial: Trial, counts: Tensor):
        self.trial = trial
        weight = frequency_weights(counts).float()
        self.row_weight = weight / weight.mean()
        self.frequency, self.log_prior = relative_frequency(counts).float(), logit_adjustment(counts).float()
        self.confusion, self.updates = torch.zeros(CLASSES, CLASSES), torch.zeros(CLASSES)
        self.seen, self.batches = torch.zeros(CLASSES), 0

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The penalty of a batch, with its gradient; batches enter the running confusion."""
        trial, column = self.trial, labels[:, None]
        logits = logits + trial.prior * self.log_prior
        above = (logits - logits.gather(1, column)).scatter(1, column, -torch.inf)
        if trial.gate == "logistic":
            rows = F.softplus(above.clamp_min(-1e4)) / math.log(2)
        else:
            rival = above.softmax(1)
            entropy = F.softplus(above.logsumexp(1))[:, None] / math.log(2)
            rows = entropy * (rival.detach() if trial.gate == "constant_rival" else rival)
        mass = torch.bincount(labels, minlength=CLASSES)
        batch = torch.zeros(CLASSES, CLASSES).index_add(0, labels, rows / mass[column])
        row, direction = self._weights(batch.detach(), mass)
        return (row * (batch @ direction)).sum()

    @torch.no_grad()
    def _weights(self, batch: Tensor, mass: Tensor) -> tuple[Tensor, Tensor]:
        trial, present, size = self.trial, mass > 0, mass.sum()
        self.updates += present
        gain = torch.where(present, 0.1 / (1 - 0.9 ** self.updates.clamp_min(1)), 0.0)[:, None]
        self.confusion = (1 - gain) * self.confusion + gain * batch
        u, _, v = torch.linalg.svd(self.row_weight[:, None] * self.confusion)
        left, right = u[:, 0].abs(), v[0].abs()
        if not trial.spectral:
            left = right = torch.full((CLASSES,), CLASSES**-0.5)
        row = self.row_weight * left / math.sqrt(CLASSES)
        if trial.gradient == "class":
            by_image = -torch.expm1(size * torch.log1p(-self.frequency))
            row = row * (100 + self.batches) / (100 * by_image + self.seen)
        self.seen += present
        self.batches += 1
        if math.isfinite(trial.most):
            row = torch.minimum(row, trial.most * mass / (size * trial.weight))
        return row, right


def evaluate(
    module: LongTailClassifier, counts: Tensor, split: Split, adjustment: Tensor | None = None
) -> dict[str, float]:
    """Means of class accuracies in percent; ``adjustment`` is taken off the logits."""
    logits = logits_of(module, split)
    return score(logits if adjustment is None else logits - adjustment, split.targets, counts)


@torch.no_grad()
def logits_of(module: LongTailClassifier, split: Split) -> Tensor:
    """Of all images in the view of evaluation, (N, C)."""
    module.eval()
    with torch.autocast("cpu", torch.bfloat16):
        logits = torch.cat([module(images).float() for images in split.images.pixels.split(500)])
    module.train()
    return logits


def score(logits: Tensor, labels: Tensor, counts: Tensor) -> dict[str, float]:
    """Means of class accuracies in percent."""
    found = logits.argmax(1)
    correct = torch.bincount(labels[found == labels], minlength=CLASSES)
    accuracy = 100 * correct / torch.bincount(labels, minlength=CLASSES)
    many, few = counts > 100, counts < 20
    groups = {"many": accuracy[many], "medium": accuracy[~many & ~few], "few": accuracy[few]}
    groups |= {"overall": accuracy, "worst_10": accuracy.sort().values[:10]}
    means = {name: float(values.mean()) for name, values in groups.items()}
    return means | {"classes_at_zero": int((accuracy == 0).sum())}


if __name__ == "__main__":
    main()
