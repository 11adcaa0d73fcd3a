"""CAR in a LightningModule, with mixed precision, gradient accumulation and torch.compile.

    python examples/lightning_module.py --precision bf16-mixed --accumulate 2 --compile inductor

Needs carlt (torch alone), lightning and scikit-learn. The lines with CAR are numbered.
"""

import argparse
from pathlib import Path
from typing import Any

import lightning as L
import torch
from digits import class_accuracy, long_tailed_digits, small_network
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from carlt import CAR


class Classifier(L.LightningModule):
    """A network trained with cross-entropy and CAR."""

    def __init__(self, class_counts: list[int], weight: float = 0.5, compile: str | None = None):
        super().__init__()
        self.save_hyperparameters()
        self.network = small_network()
        if compile:
            self.network.compile(backend=compile)
        # 1: as a submodule CAR moves to the device, is saved in checkpoints, and updates in training alone.
        self.car = CAR(class_counts, weight=weight)
        self.outputs: list[tuple[Tensor, Tensor]] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        logits = self.network(images)
        loss = F.cross_entropy(logits, labels)
        penalty = self.car(logits, labels)  # 2
        self.log_dict({"train/loss": loss, "train/penalty": penalty})
        return loss + penalty

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        self.outputs.append((self.network(images), labels))

    def on_test_epoch_end(self) -> None:
        accuracy = class_accuracy(*(torch.cat(part) for part in zip(*self.outputs, strict=True)))
        self.log_dict({"test/accuracy": accuracy.mean(), "test/worst_class": accuracy.min()})
        self.outputs.clear()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


def train(
    epochs: int = 30,
    batch_size: int = 32,
    precision: Any = "32-true",
    accumulate: int = 1,
    compile: str | None = None,
    weight: float = 0.5,
    folder: Path = Path("lightning_example"),
) -> tuple[Classifier, L.Trainer]:
    """Train and test; checkpoints go to ``folder``."""
    L.seed_everything(0, verbose=False)
    train_set, test_set, class_counts = long_tailed_digits()
    module = Classifier(class_counts, weight, compile)
    trainer = L.Trainer(
        max_epochs=epochs, precision=precision, accumulate_grad_batches=accumulate, default_root_dir=folder,
        logger=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(train_set, batch_size, shuffle=True))
    trainer.test(module, DataLoader(test_set, 500), verbose=False)
    return module, trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--precision", default="32-true", help="bf16-mixed, or 16-mixed on a GPU")
    parser.add_argument("--accumulate", type=int, default=1, metavar="BATCHES")
    parser.add_argument("--compile", metavar="BACKEND", help="e.g. inductor")
    parser.add_argument("--weight", type=float, default=0.5, help="of CAR; 0 leaves it out")
    parser.add_argument("--folder", type=Path, default=Path("lightning_example"))
    _, trainer = train(**vars(parser.parse_args()))
    print({name: round(value.item(), 3) for name, value in trainer.callback_metrics.items()})


if __name__ == "__main__":
    main()
