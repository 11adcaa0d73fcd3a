"""Variants of CAR on a validation split of CIFAR100-LT, one line per trial in cifar100_validation.csv.

    python experiments/cifar100_validation.py <folder of CIFAR-100> <folder for states> [trial ...]

Without names it runs the trials that the file lacks, so the same command goes on where it stopped. A trial takes ten
minutes on one core, and four where its penalty begins late: the training before is that of the trial without penalty,
whose state is kept. `cifar100_lt.md` says what was learned. Test images are never read.
"""

import csv
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from carlt.aug import CropFlip
from carlt.data import CIFAR100LT
from carlt.functional.accuracy import summarise
from carlt.functional.bound import MARGIN, row_weight, strongest_rival
from carlt.functional.prior import effective_number_weights, logit_adjustment
from carlt.models import CifarResNet
from carlt.reg import CAR
from carlt.runs.provenance import commit
from carlt.training.optim import lr_factor

RESULTS = Path(__file__).with_suffix(".csv")
EPOCHS, WARMUP, LR, DECAY, BRANCH = 30, 3, 0.1, 5e-4, 18
HELD: dict[str, Any] = {"absent": "hold", "beta": 0.9, "debias": True, "gradient": "class"}


@dataclass(frozen=True)
class Trial:
    """A loss, and a variant of CAR from epoch ``start`` on."""

    loss: str = "ce"
    car: dict[str, Any] = field(default_factory=dict)
    start: int = EPOCHS
    class_margin: float = 0.0  # of the rarest class, in logits; that of class j is x (n_min / n_j)^(1/4), as LDAM's
    prior: float = 0.0  # CAR sees z + prior * log pi
    power: float = 0.5  # lambda_j = (m_j + r0)^(-power)
    weights_from: int = EPOCHS  # class-balanced weights of the loss from this epoch on (DRW)


def held(loss: str, weight: float = 0.5, start: int = BRANCH, **values: Any) -> Trial:
    """CAR with held rows, by default in the last part of the training."""
    own = {name: values.pop(name) for name in ("class_margin", "prior", "power") if name in values}
    return Trial(loss, HELD | {"weight": weight} | values, start, **own)


TRIALS = {
    "ce": Trial(),
    "ce + car from epoch 18": held("ce"),
    "ce + car from epoch 18, margin 4": held("ce", margin=4.0),
    "ce + car from epoch 18, class margin 6": held("ce", margin=0.0, class_margin=6.0),
    "ce, class weights from epoch 18": Trial(weights_from=BRANCH),
    "bs": Trial("bs"),
    "bs + car from epoch 18": held("bs"),
    "bs + car from epoch 18, margin 4": held("bs", margin=4.0),
    "bs + car from epoch 18, class margin 6": held("bs", margin=0.0, class_margin=6.0),
    "ce + car from epoch 18, class margin 6, r0 0.001": held("ce", 0.1, margin=0.0, class_margin=6.0, r0=0.001),
    "ce + car from epoch 18, prior 1": held("ce", prior=1.0),
    "bs + car from epoch 18, prior 1": held("bs", prior=1.0),
}
"""In the order in which they run."""


def main() -> None:
    images, states, *names = sys.argv[1:]
    torch.set_num_threads(1)
    Path(states).mkdir(parents=True, exist_ok=True)
    data = CIFAR100LT(root=images, largest_class=475, val_per_class=25, view=CropFlip(32))
    done = {row["trial"] for row in csv.DictReader(RESULTS.open())} if RESULTS.exists() else set()
    for name in names or [name for name in TRIALS if name not in done]:
        row = {"trial": name} | train(data, TRIALS[name], Path(states))
        new = not RESULTS.exists()
        with RESULTS.open("a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if new:
                writer.writeheader()
            writer.writerow(row)
        print(row, flush=True)


def train(data: CIFAR100LT, trial: Trial, states: Path) -> dict[str, Any]:
    """One trial with seed 0: what it reaches on the validation split and on the training split."""
    begin_time = time.perf_counter()
    torch.manual_seed(0)
    counts = data.class_counts
    network = CifarResNet(100, 32).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), LR, momentum=0.9, weight_decay=DECAY)
    penalty, loss = make_penalty(trial, counts), make_loss(trial, counts)
    loader, begin = data.train_dataloader(), 0
    state = states / f"{trial.loss}.pt"
    if state.exists() and min(trial.start, trial.weights_from) >= BRANCH and trial not in TRIALS_WITHOUT_PENALTY:
        saved = torch.load(state, weights_only=True)
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        begin = BRANCH
    for epoch in range(begin, EPOCHS):
        loader.set_epoch(epoch)
        sums = torch.zeros(3)
        for step, batch in enumerate(loader):
            rate = LR * lr_factor(epoch + step / len(loader), EPOCHS, "cosine", WARMUP)
            for group in optimizer.param_groups:
                group["lr"] = rate
            logits = predict(network, data, batch.images)
            cost = loss(epoch, logits, batch.labels)
            extra = penalty(epoch, logits, batch.labels)
            optimizer.zero_grad()
            (cost + extra).backward()
            optimizer.step()
            hits = (logits.argmax(1) == batch.labels).sum()
            sums += torch.stack([cost.detach() * len(logits), extra.detach() * len(logits), hits])
        if epoch + 1 == BRANCH and trial in TRIALS_WITHOUT_PENALTY:
            torch.save({"network": network.state_dict(), "optimizer": optimizer.state_dict()}, state)
    if trial in TRIALS_WITHOUT_PENALTY:
        torch.save(network.state_dict(), states / f"{trial.loss}_trained.pt")
    split = data.splits
    assert split.val is not None
    row = {name: float(value) for name, value in zip(("loss", "penalty"), sums / len(split.train), strict=False)}
    row["train_batches"] = 100 * float(sums[2]) / len(split.train)
    row |= {f"train_{name}": value for name, value in evaluate(network, data, split.train).items()}
    row |= evaluate(network, data, split.val)
    adjusted = evaluate(network, data, split.val, logit_adjustment(counts, 1.0).float())
    row |= {f"adjusted_{name}": adjusted[name] for name in ("overall", "many", "medium", "few")}
    row = {name: round(value, 3) for name, value in row.items()}
    return row | {"minutes": round((time.perf_counter() - begin_time) / 60, 1), "commit": commit()}


TRIALS_WITHOUT_PENALTY = (TRIALS["ce"], TRIALS["bs"])


def make_penalty(trial: Trial, counts: Tensor) -> Callable[[int, Tensor, Tensor], Tensor]:
    """(epoch, logits, labels) to the penalty, zero before it begins."""
    if not trial.car:
        return lambda epoch, logits, labels: torch.zeros(())
    car = CAR(counts, **trial.car)
    if trial.power != 0.5:
        car.row_weight.copy_((counts / counts.sum() + car.r0) ** -trial.power)
    prior, margin = logit_adjustment(counts, trial.prior).float(), trial.class_margin * (counts.min() / counts) ** 0.25

    def penalty(epoch: int, logits: Tensor, labels: Tensor) -> Tensor:
        if epoch < trial.start:
            return torch.zeros(())
        # A margin of the true class in the gate is the same as a true logit that is smaller by it.
        return car(logits + prior - F.one_hot(labels, len(counts)) * margin[labels, None], labels)

    return penalty


def make_loss(trial: Trial, counts: Tensor) -> Callable[[int, Tensor, Tensor], Tensor]:
    """(epoch, logits, labels) to the loss."""
    prior = logit_adjustment(counts, 1.0 if trial.loss == "bs" else 0.0).float()
    weights = effective_number_weights(counts, 0.9999).float()
    return lambda epoch, logits, labels: F.cross_entropy(
        logits + prior, labels, weights if epoch >= trial.weights_from else None
    )


def predict(network: CifarResNet, data: CIFAR100LT, images: Tensor) -> Tensor:
    """uint8 images to float32 logits, computed in bfloat16."""
    mean, std = (torch.tensor(x).view(-1, 1, 1) for x in (data.mean, data.std))
    pixels = ((images / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        return network(pixels).float()


@torch.no_grad()
def evaluate(network: CifarResNet, data: CIFAR100LT, split: Any, adjustment: Tensor | None = None) -> dict[str, float]:
    """Accuracies in percent, and the norm of the hard margin confusion; ``adjustment`` is taken off the logits."""
    network.eval()
    logits = torch.cat([predict(network, data, images) for images in split.images.pixels.split(500)])
    network.train()
    logits = logits if adjustment is None else logits - adjustment
    labels, counts = split.targets, data.class_counts
    total, predicted = torch.bincount(labels, minlength=100), logits.argmax(1)
    correct = torch.bincount(labels[predicted == labels], minlength=100)
    summary = summarise(correct, total, torch.bincount(predicted, minlength=100), counts)
    rival, within = strongest_rival(logits, labels, MARGIN)
    confusion = torch.zeros(100, 100).index_put_((labels[within], rival[within]), torch.ones(()), accumulate=True)
    norm = torch.linalg.matrix_norm(row_weight(counts).float()[:, None] * confusion / total[:, None], 2)
    names = {"accuracy": "overall", "many": "many", "medium": "medium", "few": "few", "worst_10pct": "worst_10"}
    shown = {shown: 100 * summary[name] for name, shown in names.items()}
    return shown | {"classes_at_zero": summary["classes_at_zero"], "norm": float(norm)}


if __name__ == "__main__":
    main()
