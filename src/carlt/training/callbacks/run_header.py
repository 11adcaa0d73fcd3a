"""What runs, in a few lines before it starts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import WandbLogger
from torch import nn

from carlt.runs.text import printable
from carlt.training.compute import native_bfloat16

LARGE = 1_000_000
"""Weights from which the arithmetic of a network takes most of its time on a processor."""


def run_header(trainer: L.Trainer, module: Any, run_dir: Path | None = None) -> Iterator[str]:
    """Data, network, training, device and folder, one line each, and hints at faster settings."""
    data: Any = getattr(trainer, "datamodule", None)
    if data is not None:
        images = ", ".join(f"{len(split):,} {name}" for name, split in data.splits.named().items())
        yield f"data     {data.name}: {data.num_classes:,} classes, {images} images of {data.image_size} px"
        if untested := printable(data.splits.untested()):
            yield f"note     {untested}"
    weights = sum(parameter.numel() for parameter in module.model.parameters())
    trained = sum(parameter.numel() for parameter in module.model.parameters() if parameter.requires_grad)
    part = "" if trained == weights else f", {_count(trained)} of them trained"
    part += "" if module.average is None else ", their EMA is evaluated"
    yield f"network  {type(module.model).__name__}, {_count(weights)} weights{part}"
    yield f"method   {type(module.loss).__name__}, {type(module.reg).__name__}"
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    yield f"device   {trainer.world_size} x {name}, precision {trainer.precision}"
    if run_dir is not None:
        yield f"folder   {printable(str(run_dir))}"
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            yield f"W&B      {logger.experiment.url or logger.experiment.dir}"
    yield from hints(device, str(trainer.precision), module)


def hints(device: torch.device, precision: str, module: Any) -> Iterator[str]:
    """Settings that are faster on this device, as far as it has what they need."""
    if device.type == "cpu":
        weights = sum(parameter.numel() for parameter in module.parameters())
        if precision.startswith("32") and weights >= LARGE and native_bfloat16(device):  # it depends on the network
            yield "hint     this processor has bfloat16: trainer.precision=auto channels_last=auto may be faster"
        if precision.startswith("bf16") and not native_bfloat16(device):
            yield "hint     this processor has no bfloat16: trainer.precision=32-true may be many times faster"
    if device.type != "cuda":
        return
    if precision.startswith("32") and native_bfloat16(device):  # torch also counts what it emulates
        yield "hint     this GPU computes in bfloat16: trainer.precision=bf16-mixed is faster"
    convolves = any(isinstance(part, nn.Conv2d) for part in module.model.modules())
    if convolves and module.layout is not torch.channels_last:
        yield "hint     convolutions are faster with channels_last=true"


def _count(number: int) -> str:
    """``270 k``, ``25.6 M``."""
    return f"{number / 1e6:.1f} M" if number >= 1e6 else f"{number / 1e3:.0f} k" if number >= 1e4 else f"{number:,}"
