"""Accuracy of the classes during training, on the training batches."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from carlt.functional.accuracy import class_accuracy, class_groups
from carlt.training.callbacks.checkpoints import checked_state
from carlt.training.epochs import goes_on_within_epoch

KEY = "carlt/train_batches"


class ClassAccuracy(Callback):
    """Logs ``train_batches/accuracy``, ``/many``, ``/medium``, ``/few`` and ``/worst_class`` each epoch.

    They are of augmented images, predicted with the weights of their step (a mixed image counts for its first label),
    and cost nothing, so they are available without a validation split. A resumed epoch continues its counts.
    """

    counts: Tensor  # (2, C): right answers and images of each class so far

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        if not hasattr(self, "counts"):
            self._reset(module)
        self.counts = self.counts.to(module.device)

    def on_train_epoch_start(self, trainer: L.Trainer, module: Any) -> None:
        if not goes_on_within_epoch(trainer):
            self._reset(module)

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        labels = batch[1]
        right = (outputs["logits"].argmax(1) == labels).long()
        self.counts.index_add_(1, labels, torch.stack([right, torch.ones_like(right)]))

    def on_train_epoch_end(self, trainer: L.Trainer, module: Any) -> None:
        correct, total = self._over_ranks(trainer).cpu()
        accuracy = class_accuracy(correct, total)
        shown = {"accuracy": correct.sum() / total.sum(), "worst_class": accuracy[~accuracy.isnan()].min()}
        for name, mask in class_groups(module.class_counts).items():
            shown[name] = accuracy[mask].nanmean()
        module.log_dict({f"train_batches/{name}": float(value) for name, value in shown.items()})

    def on_save_checkpoint(self, trainer: L.Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = self._over_ranks(trainer).cpu()

    def on_load_checkpoint(self, trainer: L.Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        if KEY in checkpoint:  # one rank continues the sum over all ranks
            saved = checked_state(checkpoint[KEY], (2, len(module.class_counts)), torch.int64, KEY)
            self.counts = saved * int(trainer.is_global_zero)

    def _reset(self, module: Any) -> None:
        self.counts = torch.zeros(2, len(module.class_counts), dtype=torch.int64, device=module.device)

    def _over_ranks(self, trainer: L.Trainer) -> Tensor:
        return trainer.strategy.reduce(self.counts.clone(), reduce_op="sum")
