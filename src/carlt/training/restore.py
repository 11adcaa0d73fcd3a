"""Go on from a checkpoint: what Lightning restores of it is checked, because the file may be a stranger's."""

from pathlib import Path

import lightning as L
import torch

from carlt.data import LongTailDataModule
from carlt.errors import CarltError
from carlt.training.callbacks import Checkpoints
from carlt.training.module import LongTailClassifier


class NotRestoredError(CarltError):
    """A checkpoint that no training goes on from; the run is as it was."""


class CheckOptimizer(L.Callback):
    """Compares the restored state of the optimizer with the network before the first step."""

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        (optimizer,) = trainer.optimizers
        lacking = [name for group in optimizer.param_groups for name in optimizer.defaults if name not in group]
        if lacking:
            raise ValueError(f"the optimizer's state has no {lacking[0]}")
        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for parameter in trained:
            for name, value in optimizer.state.get(parameter, {}).items():
                if not isinstance(value, torch.Tensor | int | float | None):
                    raise ValueError(f"the optimizer's {name} is no tensor")
                if isinstance(value, torch.Tensor) and value.shape not in (parameter.shape, ()):
                    raise ValueError(f"the optimizer's {name} has another shape than its parameter")
        keeps_state = optimizer.defaults.get("momentum") != 0
        if trainer.global_step and keeps_state and not any(parameter in optimizer.state for parameter in trained):
            raise ValueError("the optimizer's state is empty")


def fit(trainer: L.Trainer, module: LongTailClassifier, data: LongTailDataModule, checkpoint: Path | None) -> None:
    """``trainer.fit``, from ``checkpoint`` if there is one.

    Raises:
        NotRestoredError: the checkpoint's state of optimizer, schedule or loops is not that of this training.
    """
    if checkpoint is None:
        trainer.fit(module, data)
        return
    trainer.callbacks.append(CheckOptimizer())  # type: ignore[attr-defined]
    try:
        trainer.fit(module, data, ckpt_path=checkpoint)
    except (CarltError, torch.OutOfMemoryError):
        raise
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if any(each.begun for each in trainer.callbacks if isinstance(each, Checkpoints)):  # type: ignore[attr-defined]
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise NotRestoredError(
            f"{checkpoint} holds another state than that of this training ({reason}): it is damaged, or of another "
            "program; start a new run"
        ) from error
