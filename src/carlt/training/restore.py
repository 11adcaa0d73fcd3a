"""Go on from a checkpoint: what Lightning restores of it is checked, because the file may be a stranger's."""

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch

from carlt.data import LongTailDataModule
from carlt.errors import CarltError, first_line
from carlt.models.weights import is_plain
from carlt.runs.faults import is_out_of_memory
from carlt.training.callbacks import Checkpoints
from carlt.training.module import LongTailClassifier


class NotRestoredError(CarltError):
    """A checkpoint that no training goes on from; the run is as it was."""


class CheckOptimizer(L.Callback):
    """Compares the restored state of optimizer and schedule with new ones before the first step."""

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        (optimizer,) = trainer.optimizers
        lacking = [name for group in optimizer.param_groups for name in optimizer.defaults if name not in group]
        if lacking:
            raise ValueError(f"the optimizer's state has no {lacking[0]}")
        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for parameter in trained:
            for name, value in optimizer.state.get(parameter, {}).items():
                if not isinstance(value, torch.Tensor):
                    sound = value is None or (name == "step" and isinstance(value, int | float))
                else:
                    sound = _is_whole(value)
                if not sound:
                    raise ValueError(f"the optimizer's {name} is no plain tensor")
                if isinstance(value, torch.Tensor) and value.shape not in (parameter.shape, ()):
                    raise ValueError(f"the optimizer's {name} has another shape than its parameter")
        keeps_state = optimizer.defaults.get("momentum") != 0
        if trainer.global_step and keeps_state and not any(parameter in optimizer.state for parameter in trained):
            raise ValueError("the optimizer's state is empty")
        new: Any = module.configure_optimizers()
        for group, of_new in zip(optimizer.param_groups, new["optimizer"].param_groups, strict=True):
            _check_kinds({name: group[name] for name in optimizer.defaults}, of_new, "the optimizer's")
        for schedule in trainer.lr_scheduler_configs:
            given, of_new = schedule.scheduler.state_dict(), new["lr_scheduler"]["scheduler"].state_dict()
            if methods := [name for name in given if callable(getattr(type(schedule.scheduler), name, None))]:
                raise ValueError(f"the schedule's {methods[0]} is replaced")
            _check_kinds(given, of_new, "the schedule's")


def _is_whole(value: torch.Tensor) -> bool:
    """Whether every number of ``value`` has a place of its own in memory, so that a step can write it."""
    return is_plain(value) and value.untyped_storage().nbytes() >= value.nbytes


def _check_kinds(given: Mapping[str, Any], new: Mapping[str, Any], whose: str) -> None:
    """ValueError if a value is of another kind than the one that ``new`` has under that name."""
    for name in given.keys() & new.keys():
        if not _alike(given[name], new[name]):
            raise ValueError(f"{whose} {name} is {reprlib.repr(given[name])}")


def _alike(a: Any, b: Any) -> bool:
    if isinstance(b, list | tuple):
        return isinstance(a, list | tuple) and len(a) == len(b) and all(map(_alike, a, b))
    if isinstance(b, bool) or not isinstance(b, int | float):
        return type(a) is type(b)
    return isinstance(a, int | float) and not isinstance(a, bool)


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
    except CarltError:
        raise
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if is_out_of_memory(error) or any(each.begun for each in trainer.callbacks if isinstance(each, Checkpoints)):  # type: ignore[attr-defined]
            raise
        reason = first_line(error)
        raise NotRestoredError(
            f"{checkpoint} holds another state than that of this training ({reason}): it is damaged, or of another "
            "program; start a new run"
        ) from error
