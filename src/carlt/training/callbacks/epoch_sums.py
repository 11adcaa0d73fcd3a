"""Sums over the batches of an epoch, which a resumed epoch continues."""

from typing import Any, ClassVar

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from carlt.training.callbacks.checkpoints import checked_state
from carlt.training.epochs import goes_on_within_epoch


class EpochSums(Callback):
    """Has ``sums``, each epoch from ``zeros`` on; a checkpoint keeps the total of all ranks under ``key``."""

    key: ClassVar[str]
    sums: Tensor

    def zeros(self, module: Any) -> Tensor:
        """The sums before the first batch."""
        raise NotImplementedError

    def over_ranks(self, trainer: L.Trainer) -> Tensor:
        """The total of all ranks, on the CPU; every rank must call it."""
        return trainer.strategy.reduce(self.sums.clone(), reduce_op="sum").cpu()

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        self.sums = (self.sums if hasattr(self, "sums") else self.zeros(module)).to(module.device)

    def on_train_epoch_start(self, trainer: L.Trainer, module: Any) -> None:
        if not goes_on_within_epoch(trainer):
            self.sums = self.zeros(module).to(module.device)

    def on_save_checkpoint(self, trainer: L.Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint[self.key] = self.over_ranks(trainer)

    def on_load_checkpoint(self, trainer: L.Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        if self.key in checkpoint:  # one rank continues the sum over all ranks
            zeros = self.zeros(module)
            saved = checked_state(checkpoint[self.key], tuple(zeros.shape), zeros.dtype, self.key)
            self.sums = saved * int(trainer.is_global_zero)
