"""Accuracy of the classes during training, on the training batches."""

from typing import Any

import lightning as L
import torch
from torch import Tensor

from carlt.functional.accuracy import class_accuracy, class_groups
from carlt.training.callbacks.epoch_sums import EpochSums


class ClassAccuracy(EpochSums):
    """Logs ``train_batches/accuracy``, ``/many``, ``/medium``, ``/few`` and ``/worst_class`` each epoch.

    They are of augmented images, predicted with the weights of their step (a mixed image counts for its first label),
    and cost nothing, so they are available without a validation split. A resumed epoch continues its counts.
    """

    key = "carlt/train_batches"

    def zeros(self, module: Any) -> Tensor:
        """(2, C): right answers and images of each class."""
        return torch.zeros(2, len(module.class_counts), dtype=torch.int64)

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        labels = batch[1]
        right = (outputs["logits"].argmax(1) == labels).long()
        self.sums.index_add_(1, labels, torch.stack([right, torch.ones_like(right)]))

    def on_train_epoch_end(self, trainer: L.Trainer, module: Any) -> None:
        correct, total = self.over_ranks(trainer)
        accuracy = class_accuracy(correct, total)
        shown = {"accuracy": correct.sum() / total.sum(), "worst_class": accuracy[~accuracy.isnan()].min()}
        for name, mask in class_groups(module.class_counts).items():
            shown[name] = accuracy[mask].nanmean()
        module.log_dict({f"train_batches/{name}": float(value) for name, value in shown.items()})
