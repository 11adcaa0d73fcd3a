"""``checkpoints/last.ckpt`` and ``checkpoints/best.ckpt``: the two files that resume and evaluate need."""

import os
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from carlt.errors import CarltError
from carlt.metrics import metric_names
from carlt.models.weights import is_plain, load_data
from carlt.ranges import CountOrZero, checked
from carlt.runs import paths


class Checkpoints(Checkpoint):
    """Saves ``last`` every epoch, every ``every_n_steps`` steps and on SIGTERM, ``best`` when ``monitor`` improves.

    Nothing is saved between the batches whose gradients are accumulated: a checkpoint holds no gradients. A training
    of one process that carlt itself stops (CAR met too many non-finite steps) leaves ``stopped.ckpt`` for inspection.

    Args:
        monitor: a validation metric, larger is better. Without a validation split there is no ``best``.
        every_n_steps: training steps between two saves within an epoch; 0 saves after epochs only.
    """

    @checked
    def __init__(self, run_dir: Path, monitor: str = "val/balanced_accuracy", every_n_steps: CountOrZero = 500):
        known = [f"val/{name}" for name in metric_names()]
        if monitor not in known:
            raise CarltError(f"monitor={monitor} is not measured; choose from {', '.join(known)}")
        self.run_dir, self.monitor, self.every_n_steps = run_dir, monitor, every_n_steps
        self.best_value, self.best_epoch = -torch.inf, -1
        self.begun = self.accumulates = False

    def on_train_batch_start(self, *_: Any) -> None:
        self.begun = True

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.accumulates = accumulates(trainer, batch_idx)
        # Not after an epoch's last batch: from there Lightning would skip its validation. It is saved after that.
        due = self.every_n_steps and trainer.global_step % self.every_n_steps == 0
        if due and not (trainer.is_last_batch or self.accumulates):
            self._save(trainer, "last")

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        value = float(trainer.callback_metrics[self.monitor])
        if value > self.best_value:
            self.best_value, self.best_epoch = value, trainer.current_epoch
            self._save(trainer, "best")

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._save(trainer, "last")

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        # Lightning raises this between two batches; any other exception may have left a step half done. In or after
        # validation the last save stays: the counts of a half-done validation are in no checkpoint.
        whole = not (trainer.validating or trainer.is_last_batch or self.accumulates)
        if isinstance(exception, SIGTERMException) and whole:
            self._save(trainer, "last")
        elif isinstance(exception, CarltError) and self.begun and trainer.world_size == 1:
            # Of several processes one alone may meet a damaged image, and a save would wait for the others.
            self._save(trainer, "stopped")

    def on_load_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        # Lightning counts a batch as completed, and its step for the loggers, after on_train_batch_end, where we save.
        # From such a file 2.4 would repeat the batch, and later versions would add one to the step.
        loop = checkpoint["loops"]["fit_loop"]
        loop["epoch_loop.state_dict"]["_batches_that_stepped"] = checkpoint["global_step"]
        for batches in (loop["epoch_loop.batch_progress"][which] for which in ("total", "current")):
            batches["completed"] = batches["processed"]

    def state_dict(self) -> dict[str, Any]:
        return {"best_value": float(self.best_value), "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_value, self.best_epoch = float(state_dict["best_value"]), int(state_dict["best_epoch"])

    def _save(self, trainer: L.Trainer, which: str) -> None:
        trainer.save_checkpoint(paths.checkpoint(self.run_dir, which))


def accumulates(trainer: L.Trainer, batch_idx: int) -> bool:
    """Whether the gradients of this batch wait for those of later ones."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches != 0


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and moves: a kill leaves the old file whole, wherever the temporary folder lies."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        with paths.written_whole(Path(path)) as beside, open(beside, "wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())

    def load_checkpoint(self, path: Any, *_: Any, **__: Any) -> dict[str, Any]:
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint as data, executing nothing; CarltError if it is missing, damaged or holds more than data."""
    if not path.is_file():
        raise CarltError(f"no checkpoint at {path}")
    reason: str | None
    try:
        content = load_data(path)
        reason = _problem(content)
    except CarltError as error:
        reason = str(error)
    except Exception as error:  # the unpickler and the zip reader have many kinds of error
        reason = type(error).__name__
    if reason:
        raise CarltError(
            f"{path} is damaged or no carlt checkpoint ({reason}); nothing of it was run; take another one"
        )
    return content


def checked_state(value: Any, shape: tuple[int, ...], dtype: torch.dtype, name: str) -> torch.Tensor:
    """``value`` if it is a plain tensor of this shape and type, as a callback saved it; else ValueError."""
    if not is_plain(value) or value.shape != shape or value.dtype != dtype:
        raise ValueError(f"{name} is no {dtype} of shape {shape}")
    return value


def _problem(content: Any) -> str | None:
    """What keeps the content of a file from being a checkpoint; None if it is one."""
    if not isinstance(content, Mapping):
        return "it holds no mapping"
    if missing := {"state_dict", "epoch", "pytorch-lightning_version"} - content.keys():
        return f"it has no {', '.join(sorted(missing))}"
    state, epoch, version = content["state_dict"], content["epoch"], content["pytorch-lightning_version"]
    if not isinstance(state, Mapping):
        return "its state_dict is no mapping"
    for name, value in state.items():
        if not is_plain(value):
            return f"{str(name)[:80]!r} is no plain tensor"
    if not isinstance(epoch, int) or isinstance(epoch, bool) or not 0 <= epoch < 2**31:
        # Not str(): of a list that holds a list twice, which holds a list twice, it takes all memory.
        return f"its epoch is {reprlib.repr(epoch)}"
    if not isinstance(version, str) or not re.fullmatch(r"\d+(\.\d+)+[\w.+-]*", version):
        return f"its version of Lightning is {reprlib.repr(version)}"
    return None
