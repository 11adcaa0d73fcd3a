"""One progress bar for a whole training, or a plain line now and then where there is no terminal."""

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

SHOWN = {
    "train/loss": "loss",
    "val/accuracy": "val",
    "val/worst_class": "worst class",
    "car/spectral_norm": "spectral norm",
}


class Progress(Callback):
    """Shows epoch, loss, validation accuracy, worst class and CAR's spectral norm, and the time left.

    Args:
        plain_every_s: seconds between two lines when the output is no terminal.
    """

    def __init__(self, plain_every_s: float = 15.0):
        self.plain_every_s = plain_every_s
        self.console = Console()
        self.bar: Bar | None = None
        self.started = self.last_line = 0.0

    @rank_zero_only
    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.started = self.last_line = time.monotonic()
        if not self.console.is_terminal:
            return
        self.bar = Bar(
            TextColumn("epoch"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[metrics]}"),
            console=self.console,
        )
        self.bar.add_task("train", total=trainer.max_epochs, completed=trainer.current_epoch, metrics="")
        self.bar.start()

    @rank_zero_only
    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *args: Any) -> None:
        if self.bar is not None and trainer.num_training_batches:
            done = trainer.current_epoch + (args[-1] + 1) / trainer.num_training_batches
            self.bar.update(self.bar.task_ids[0], completed=int(done * 100) / 100)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        metrics = _metrics(trainer)  # reduces over the ranks, so all of them must ask
        if not trainer.is_global_zero:
            return
        done = trainer.current_epoch + 1
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=done, metrics=metrics)
        elif time.monotonic() - self.last_line >= self.plain_every_s or done == trainer.max_epochs:
            self.last_line = time.monotonic()
            print(
                f"epoch {done}/{trainer.max_epochs}  {self.last_line - self.started:.0f} s  {metrics}",
                flush=True,
            )

    @rank_zero_only
    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._close()

    @rank_zero_only
    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def _metrics(trainer: L.Trainer) -> str:
    known = trainer.callback_metrics
    return "  ".join(f"{label} {float(known[name]):.3f}" for name, label in SHOWN.items() if name in known)
