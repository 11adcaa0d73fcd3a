"""CAR's diagnostics: its spectral norm, the error of its estimate, and its cost."""

import math
import time
from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from carlt.functional.confusion import relative_gap
from carlt.models.modes import eval_mode
from carlt.ranges import CountOrZero, checked
from carlt.reg import CAR


class CarDiagnostics(Callback):
    """Logs ``car/spectral_norm``, ``car/skipped_steps``, ``car/search_error``, ``car/time_share``, ``car/ema_gap``.

    ``car/ema_gap`` is ||C^ - C_true||_F / ||C_true||_F, with C_true the surrogate confusion of the whole training set
    under the present weights in eval mode: one forward pass over it. ``car/time_share`` is CAR's part of a training
    step; CAR computes its gradient in its forward pass, which is timed. Of several CARs the first is measured.

    Args:
        gap_every_n_epochs: epochs between two measurements of the gap; the last epoch is always measured; 0 never.
    """

    @checked
    def __init__(self, gap_every_n_epochs: CountOrZero = 20):
        self.gap_every_n_epochs = gap_every_n_epochs

    def setup(self, trainer: L.Trainer, module: Any, stage: str) -> None:
        self.car = next((part for part in module.reg.modules() if isinstance(part, CAR)), None)

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        self.hooks = []
        if self.car is not None:
            self.skipped = int(self.car.skipped_steps)
            self.step, self.penalty = Stopwatch(module.device), Stopwatch(module.device)
            self.hooks = [
                self.car.register_forward_pre_hook(lambda *_: self.penalty.start()),
                self.car.register_forward_hook(lambda *_: self.penalty.stop()),
            ]

    def on_train_end(self, trainer: L.Trainer, module: Any) -> None:
        for hook in self.hooks:
            hook.remove()

    def on_train_batch_start(self, *_: Any) -> None:
        if self.car is not None:
            self.step.start()

    def on_train_batch_end(self, *_: Any) -> None:
        if self.car is not None:
            self.step.stop()

    def on_train_epoch_end(self, trainer: L.Trainer, module: Any) -> None:
        if self.car is None:
            return
        self.car.check()  # of the last steps: on a GPU CAR looks at every 64th alone
        module.log("car/spectral_norm", self.car.spectral_norm)
        module.log("car/skipped_steps", self.car.skipped_steps.float())
        module.log("car/search_error", float(self.car.search_error))
        self._warn_of_skips(trainer.current_epoch)
        module.log("car/time_share", self.penalty.total() / max(self.step.total(), 1e-9))
        done, every = trainer.current_epoch + 1, self.gap_every_n_epochs
        due = every and (done % every == 0 or done == trainer.max_epochs)
        # NaN in between: Lightning would repeat the last value as if it were measured again.
        module.log("car/ema_gap", self.ema_gap(trainer, module) if due else math.nan)

    def _warn_of_skips(self, epoch: int) -> None:
        assert self.car is not None
        total = int(self.car.skipped_steps)
        if total > self.skipped:
            rank_zero_warn(f"CAR left out {total - self.skipped} steps with non-finite logits in epoch {epoch + 1}")
        self.skipped = total

    def ema_gap(self, trainer: L.Trainer, module: Any) -> Tensor:
        """The relative gap of CAR's estimate, a scalar at least 0. Every rank must call it."""
        assert self.car is not None
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        with eval_mode(module), torch.random.fork_rng(devices=[]):
            truth = self.car.true_confusion(_logits(trainer, module, data.evaluation_loader(data.splits.train)))
        return relative_gap(self.car.confusion, truth)


class Stopwatch:
    """Sums the time between start and stop in seconds; on a GPU by events, without waiting for it."""

    def __init__(self, device: torch.device):
        self.on_gpu = device.type == "cuda"
        self.seconds, self.began = 0.0, 0.0
        self.events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def start(self) -> None:
        if self.on_gpu:
            self.events.append((torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)))
            self.events[-1][0].record()
        else:
            self.began = time.perf_counter()

    def stop(self) -> None:
        if self.on_gpu:
            self.events[-1][1].record()
        else:
            self.seconds += time.perf_counter() - self.began

    def total(self) -> float:
        """Seconds so far; waits for the GPU."""
        if self.events:
            torch.cuda.synchronize()
            self.seconds += sum(first.elapsed_time(last) for first, last in self.events) / 1000
            self.events.clear()
        return self.seconds


@torch.no_grad()
def _logits(trainer: L.Trainer, module: Any, batches: Any) -> Iterator[tuple[Tensor, Tensor]]:
    for images, labels in batches:
        # In the precision of training. Not module(images): the EMA of the weights is another network than the one that
        # CAR follows.
        with trainer.precision_plugin.forward_context():
            logits = module.model(module.normalise(images.to(module.device)))
        yield logits if logits.dtype == torch.float64 else logits.float(), labels.to(module.device)
