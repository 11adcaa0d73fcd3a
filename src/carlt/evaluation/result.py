"""The record of a finished run: metrics of every split, and the facts needed to trust them."""

import math
import os
import platform
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from omegaconf import DictConfig

from carlt.data import LongTailDataModule
from carlt.evaluation.evaluate import bound, evaluate_splits, summaries, worst_class, write_confusions
from carlt.evaluation.examples import find_examples
from carlt.runs import paths, record
from carlt.runs.examples import write_examples
from carlt.runs.provenance import commit, processor, versions
from carlt.training.callbacks import Checkpoints, read_checkpoint, read_rows
from carlt.training.compute import native_bfloat16
from carlt.training.module import LongTailClassifier
from carlt.training.sharding import gather, load_whole


def evaluate_and_record(
    run_dir: Path,
    trainer: L.Trainer,
    module: LongTailClassifier,
    data: LongTailDataModule,
    config: DictConfig,
    fit_seconds: float,
) -> dict[str, Any]:
    """Evaluate the last epoch (the headline) and, if validation chose one, the best; write the run folder's records.

    Returns the content of ``result.json``. On several ranks all take part and the first one writes.
    """
    began = time.monotonic()
    evaluations = evaluate_splits(trainer, module, data, ("test", "val", "train"))
    metrics = summaries(evaluations, module)
    metrics["test/worst_ratio"] = _ratio(metrics["test/worst_class"], metrics["train/worst_class"])
    worst = worst_class(evaluations, data)
    result = {
        "schema": 1,
        "metrics": metrics,
        "best": _best(run_dir, trainer, module, data),
        "worst_class": worst,
        "bound": bound(metrics, worst, data),
        "calibration": {name: evaluation.calibration() for name, evaluation in evaluations.items()},
        "epochs": trainer.current_epoch,
        "seed": config.seed,
        "num_classes": data.num_classes,
        "class_counts": data.class_counts.tolist(),
        "data": {
            "name": data.name,
            "sha256": data.checksum(),
            "images": {k: int(e.total.sum()) for k, e in evaluations.items()},
            "tested_classes": int((evaluations["test"].total > 0).sum()),
        },
        "timings": {"fit_s": round(fit_seconds, 2), "steps": trainer.global_step},
        "versions": {"python": platform.python_version(), **versions()},
        "hardware": _hardware(trainer),
        "compute": _compute(trainer, config),
        "commit": commit(),
        "run_hash": config.run_hash,
    }
    module.to(trainer.strategy.root_device)  # Lightning has moved it to the CPU
    gather(module.model)  # after the move, which shares the weights out again
    if trainer.is_global_zero:
        # From the file: trainer.callback_metrics is empty if an earlier process finished the training.
        epochs = read_rows(run_dir / paths.METRICS) if (run_dir / paths.METRICS).exists() else []
        metrics |= {name: value for name, value in (epochs or [{}])[-1].items() if name.startswith("car/")}
        write_confusions(run_dir, evaluations, data)
        write_examples(run_dir, find_examples(module, data, evaluations["test"]))
        result["timings"]["evaluation_s"] = round(time.monotonic() - began, 2)
        record.write_result(run_dir, result)
    return result


def _best(
    run_dir: Path, trainer: L.Trainer, module: LongTailClassifier, data: LongTailDataModule
) -> dict[str, Any] | None:
    """The best epoch's test metrics and how it was chosen; ``module`` has the last epoch's weights again afterwards."""
    callback = next((c for c in trainer.callbacks if isinstance(c, Checkpoints)), None)  # type: ignore[attr-defined]
    path = paths.checkpoint(run_dir, "best")
    if callback is None or callback.best_epoch < 0 or not path.is_file():
        return None
    last = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    load_whole(module, read_checkpoint(path)["state_dict"])
    metrics = summaries(evaluate_splits(trainer, module, data, ("test",)), module)
    module.load_state_dict(last)
    on_test = data.validation == "test"
    return {
        "epoch": callback.best_epoch,
        "chosen_by": f"{callback.monitor} on the {'TEST' if on_test else 'validation'} split",
        "chosen_on_test": on_test,
        "value": callback.best_value,
        "metrics": metrics,
    }


def _ratio(test: float, train: float) -> float:
    return test / train if train > 0 else math.nan


def _compute(trainer: L.Trainer, config: DictConfig) -> dict[str, Any]:
    """How the numbers were computed, and what ``auto`` measured to decide so (None where nothing was)."""
    measured = config.get("compute_ms")
    return {
        "precision": trainer.precision,
        "channels_last": bool(config.channels_last),
        "compile": config.trainer.get("compile") or False,
        "measured_ms": None if measured is None else dict(measured),
    }


def _hardware(trainer: L.Trainer) -> dict[str, Any]:
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return {
        "device": device.type,
        "name": name,
        "native_bfloat16": native_bfloat16(device),
        "devices": trainer.world_size,
        "cpu_cores": os.cpu_count(),
    }
