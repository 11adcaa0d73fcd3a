"""carlt's CIFAR100-LT training loop beside that of CAR's released script; writes cifar_loop.md next to this file.

    python experiments/benchmarks/cifar_loop.py <folder with cifar-100-python>
    python experiments/benchmarks/cifar_loop.py         # with noise for images

The released script's loop is written here from its description: torchvision's transforms on Pillow images in a
DataLoader, float32, the surrogate matrix with autograd and a full SVD in each step, AdamW, a pass over the test images
after each epoch. carlt's is ``python -m carlt.train data=cifar100_lt model=resnet32 reg=car trainer.precision=auto
channels_last=auto data.validation=test``, with all its callbacks: logging, checkpoints, the test pass. Both train the
same network on the same images in batches of 128, one epoch of each in turn, in one process. On a CPU seconds are CPU
time of one thread, so that other load does not count; on a GPU they are wall-clock, and the DataLoader has workers.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import made_up
import torch
import torchvision
from data_loading import MEAN, STD, ArrayDataset, cpu
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms as usual

from carlt.config.overrides import compose_checked
from carlt.data import LongTailDataModule
from carlt.data.images import Split
from carlt.models import CifarResNet
from carlt.runs import provenance
from carlt.training import build, compute

EPOCHS = 4  # of each; the first warms up, and the last holds what carlt does once a run: neither counts
BATCH, CLASSES = 128, 100
WEIGHT, BETA, R0 = 0.3, 0.9, 0.2
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
GOAL = 5 if DEVICE.type == "cuda" else 2


class ReleasedPenalty:
    """The released code's penalty: a running C x C matrix, its rows weighted, and a full SVD."""

    def __init__(self, class_counts: Tensor):
        weights = (class_counts / class_counts.sum() + R0).rsqrt()
        self.weights = (weights / weights.mean()).to(DEVICE)[:, None]
        self.matrix: Tensor | None = None

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        column = labels[:, None]
        gate = torch.sigmoid(logits - logits.gather(1, column)).detach()
        confused = (gate * logits.softmax(1)).scatter(1, column, 0.0)
        rows = logits.new_zeros(CLASSES, CLASSES).index_add(0, labels, confused)
        rows = rows / labels.bincount(minlength=CLASSES).clamp_min(1)[:, None]
        matrix = rows.detach() if self.matrix is None else BETA * self.matrix + (1 - BETA) * rows
        self.matrix = matrix.detach()
        return WEIGHT * torch.linalg.svd(self.weights * matrix)[1][0]


class ReleasedLoop:
    """One call trains an epoch and then goes through the test images."""

    def __init__(self, data: LongTailDataModule):
        normalise = [usual.ToTensor(), usual.Normalize(MEAN, STD)]
        crop = [usual.RandomResizedCrop(32, (0.8, 1.0)), usual.RandomHorizontalFlip()]
        centre = [usual.Resize(35), usual.CenterCrop(32)]
        self.train = loader(data.splits.train, usual.Compose([*crop, *normalise]), shuffle=True)
        self.test = loader(data.splits.test, usual.Compose([*centre, *normalise]), shuffle=False)
        self.network = CifarResNet(CLASSES, depth=32).to(DEVICE)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=5e-5, weight_decay=0.05)
        self.penalty = ReleasedPenalty(data.class_counts)

    def __call__(self) -> None:
        self.network.train()
        for images, labels in self.train:
            images, labels = images.to(DEVICE, non_blocking=True), labels.to(DEVICE, non_blocking=True)
            logits = self.network(images)
            loss = nn.functional.cross_entropy(logits, labels) + self.penalty(logits, labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        self.network.eval()
        correct = 0
        with torch.no_grad():
            for images, labels in self.test:
                found = self.network(images.to(DEVICE, non_blocking=True)).argmax(1)
                correct += int((found == labels.to(DEVICE)).sum())


class Interleaved(L.Callback):
    """Times each epoch of carlt with all that belongs to it, and one of the other loop before it."""

    def __init__(self, other: Callable[[], None]):
        self.other, self.began = other, 0.0
        self.theirs: list[float] = []
        self.ours: list[float] = []

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._finish()
        before = torch.get_rng_state(), seconds()
        self.other()
        self.theirs.append(seconds() - before[1])
        torch.set_rng_state(before[0])
        self.began = seconds()

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._finish()

    def _finish(self) -> None:
        if self.began:
            self.ours.append(seconds() - self.began)
            print(f"released {self.theirs[-1]:.1f} s, carlt {self.ours[-1]:.1f} s", flush=True)


def loader(split: Split, transform: Any, shuffle: bool) -> DataLoader:
    """torch's DataLoader over Pillow images."""
    pixels = split.images.pixels.permute(0, 2, 3, 1).contiguous().numpy()
    on_gpu = DEVICE.type == "cuda"
    options = {"num_workers": 8, "pin_memory": True, "persistent_workers": True} if on_gpu else {}
    return DataLoader(ArrayDataset(pixels, split.targets.tolist(), transform), BATCH, shuffle=shuffle, **options)


def seconds() -> float:
    """CPU time of this process, or on a GPU the clock after all its work."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def measure(root: str, folder: Path) -> tuple[Interleaved, str]:
    """Train both, and say what carlt computed in."""
    config = compose_checked(
        "train",
        [
            "data=cifar100_lt", f"data.root={root}", "data.official=false", "data.validation=test", "model=resnet32",
            "reg=car",
            "trainer.precision=auto", "channels_last=auto", f"trainer.max_epochs={EPOCHS}",
        ],
    )  # fmt: skip
    compute.resolve(config)
    print(config.compute_ms, flush=True)
    data = build.build_data(config)
    module = build.build_module(config, data)
    trainer = build.build_trainer(config, folder, build.build_loggers(config, folder))
    interleaved = Interleaved(ReleasedLoop(data))
    trainer.callbacks.insert(0, interleaved)
    trainer.fit(module, datamodule=data)
    layout = "channels last" if config.channels_last else "channels first"
    return interleaved, f"{config.trainer.precision}, {layout}"


def main() -> None:
    """Measure and write the record."""
    if len(sys.argv) > 2:
        sys.exit(__doc__)
    real = len(sys.argv) == 2
    build.quiet_libraries()
    if DEVICE.type == "cpu":
        torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        if not real:
            made_up.cifar100(Path(scratch, "data"))
        found, chosen = measure(sys.argv[1] if real else f"{scratch}/data", Path(scratch, "run"))
    pairs = list(zip(found.theirs, found.ours, strict=True))[1:-1]
    ratios = [theirs / ours for theirs, ours in pairs]
    rows = "\n".join(f"| {k} | {a:.1f} | {b:.1f} | {a / b:.2f} |" for k, (a, b) in enumerate(pairs, 2))
    on_gpu = DEVICE.type == "cuda"
    where = torch.cuda.get_device_name() if on_gpu else f"{cpu()}, one thread, no GPU"
    what = "seconds" if on_gpu else "CPU seconds"
    folder, noise = (" <folder>", "") if real else ("", ", all of noise")
    tf32 = " (TF32 in convolutions)" if on_gpu else ""
    commit = (provenance.commit() or "unknown")[:7]
    missing = "" if on_gpu else "Not measured on a GPU; the goal there is 5."
    text = f"""# A CIFAR100-LT epoch: carlt beside CAR's released loop, as reimplemented here

`python experiments/benchmarks/cifar_loop.py{folder}`, {time.strftime("%Y-%m-%d")}, commit {commit},
{where}; Python {sys.version.split()[0]}, torch {torch.__version__}, torchvision {torchvision.__version__},
lightning {L.__version__}. ResNet-32, batch 128, 10,847 training images (imbalance factor 100) and 10,000 test images
an epoch{noise}, {what} of whole epochs in turn in one process. The first of {EPOCHS} epochs warms up, and the
last holds CAR's diagnostics over the training images, which come once in 20 epochs: neither counts. carlt chose
{chosen}.

| epoch | released loop, {what} | carlt, {what} | ratio |
|---|---|---|---|
{rows}

Median ratio {statistics.median(ratios):.2f}; the goal is {GOAL} on a {DEVICE.type.upper()}.
{missing}

The released loop is our reimplementation from its description: Pillow images through torchvision's transforms
({"8 workers" if on_gpu else "in the training process"}), float32{tf32}, autograd through the C x C surrogate and a full
SVD in each step, AdamW at 5e-5, one pass over the test images an epoch. carlt trains with its recipe's SGD; an epoch of
it includes logging, checkpoints and the metrics of each class.
"""
    Path(__file__).with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
