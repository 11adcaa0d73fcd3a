"""What the parts of a run must fit: the network its images, the length its batches, the devices this machine."""

import itertools
import os
from pathlib import Path

import lightning as L
import torch
from omegaconf import DictConfig
from torch import nn

from carlt.data import ArrayImages, LongTailDataModule
from carlt.errors import CarltError, first_line
from carlt.losses import LDAM
from carlt.losses.base import NetworkLoss
from carlt.models.classifier import CosineClassifier
from carlt.models.modes import eval_mode
from carlt.reg import CAR
from carlt.runs.text import get_logger
from carlt.training import sharding
from carlt.training.module import LongTailClassifier

log = get_logger(__name__)

SURELY_LARGE_ENOUGH = 8
"""From this side in pixels on, every layer of carlt's own networks has something left."""


def check_run(config: DictConfig, module: LongTailClassifier, data: LongTailDataModule) -> None:
    """CarltError if the run could not train: too small images, views that give no bytes, batches that its loss cannot
    take, a margin that does not fit the classifier, too short a run, or weights that cannot be shared out."""
    check_image_size(module.model, data)
    check_views(data)
    if isinstance(module.loss, NetworkLoss):
        module.loss.check_run(module.model, data.batch_size)
        check_offsets(module.loss, module.reg)
    check_scale(module)
    check_length(config, data)
    sharding.check(module, config)


def check_offsets(loss: NetworkLoss, reg: nn.Module) -> None:
    """CarltError if the regularizer shifts classes in a loss that does not take shifted logits."""
    if not loss.adjusts and any(isinstance(part, CAR) and part.offset is not None for part in reg.modules()):
        raise CarltError(
            f"the class offsets of reg=car_offsets do not reach {type(loss).__name__}, which does not take its logits "
            "through step.adjust: choose another loss, or reg=car"
        )


def check_scale(module: LongTailClassifier) -> None:
    """CarltError if a margin between cosines is scaled otherwise than the classifier's cosines."""
    margins = [part for part in module.loss.modules() if isinstance(part, LDAM)]
    cosines = [part for part in module.model.modules() if isinstance(part, CosineClassifier)]
    for loss, classifier in itertools.product(margins, cosines):
        if loss.scale != classifier.scale:
            raise CarltError(
                f"loss.scale={loss.scale:g}, but the classifier has the scale {classifier.scale:g}, and the margin of "
                f"{type(module.loss).__name__} is between its cosines: give model.cosine_scale={loss.scale:g}, which "
                "sets both, in place of loss.scale"
            )


def check_image_size(model: nn.Module, data: LongTailDataModule) -> None:
    """CarltError if the images are so small that the network's layers leave nothing of them."""
    if data.image_size >= SURELY_LARGE_ENOUGH:
        return
    try:
        with torch.no_grad(), eval_mode(model):
            model(torch.zeros(1, data.channels, data.image_size, data.image_size))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise CarltError(
            f"data.image_size={data.image_size} is too small for {type(model).__name__}: "
            f"{first_line(error)}; give a larger one"
        ) from None


def check_views(data: LongTailDataModule) -> None:
    """CarltError if a view, with transforms of one's own, does not give bytes of as many channels."""
    images = data.splits.train.images
    try:
        image = images.pixels[0] if isinstance(images, ArrayImages) else images.load(0)
    except CarltError:  # training names it, or leaves it out
        return
    for name, view in (("aug.view", data.views.view), ("aug.eval_view", data.eval_view)):
        with torch.random.fork_rng(devices=[]):
            seen = view.image(image)
        if (seen.dtype, seen.shape[:-2]) != (torch.uint8, (data.channels,)):
            raise CarltError(
                f"{name} with aug.transforms gives {seen.dtype} {tuple(seen.shape)}: it has to give torch.uint8 "
                f"({data.channels}, H, W), which is normalised later; leave out transforms to other numbers, such as "
                "ToDtype and Normalize"
            )


def check_length(config: DictConfig, data: LongTailDataModule) -> None:
    """CarltError if the trainer's values leave no batch to train on, or no epoch that is validated."""
    share, batches = config.trainer.get("limit_train_batches"), len(data.schedule())
    if isinstance(share, float) and int(share * batches) < 1:
        raise CarltError(
            f"trainer.limit_train_batches={share:g} of {batches} batches is less than one; give a number of batches"
        )
    every, epochs = config.trainer.get("check_val_every_n_epoch") or 1, config.trainer.max_epochs
    if every > epochs and data.val_split is not None:
        raise CarltError(
            f"trainer.check_val_every_n_epoch={every} validates none of trainer.max_epochs={epochs} epochs; lower it, "
            "or add data.validation=none"
        )
    warmup = config.optim.get("warmup_epochs") or 0
    if warmup >= epochs > 1:
        log.warning(
            "optim.warmup_epochs=%g of trainer.max_epochs=%d epochs: the learning rate never reaches optim.lr; lower "
            "optim.warmup_epochs", warmup, epochs,
        )  # fmt: skip


def check_resumed(trainer: L.Trainer, folder: Path, devices: int | None) -> None:
    """CarltError if the run in ``folder`` stopped within an epoch on another number of ``devices``: the batches that
    are left of the epoch would be others. At the end of an epoch the number may change."""
    if devices not in (None, trainer.world_size):
        raise CarltError(
            f"resume={folder}: it stopped within an epoch on {devices} device(s), and there are {trainer.world_size} "
            f"now; resume with {devices} until the epoch's end, where trainer.devices may change"
        )


def check_devices(trainer: L.Trainer) -> None:
    """CarltError for more processes on the CPU than it has cores."""
    cores = os.cpu_count() or 1
    if trainer.strategy.root_device.type == "cpu" and trainer.num_devices > cores:
        raise CarltError(
            f"trainer.devices={trainer.num_devices}: this machine has {cores} CPU cores; give at most {cores}"
        )
