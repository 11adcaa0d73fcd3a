"""Methods that a part may have besides its main call. No base class is needed: the methods are enough."""

from typing import Any, Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class FollowsProgress(Protocol):
    """A part whose behaviour changes in the course of training."""

    def set_progress(self, progress: float) -> None:
        """Set the share of the training that is done, in [0, 1). It is called before each epoch."""


@runtime_checkable
class AdjustsLogits(Protocol):
    """A regularizer that changes the logits which the loss sees, and not those that are evaluated."""

    def adjust(self, logits: Tensor) -> Tensor:
        """Logits (..., C) of the network to those for the loss."""
        ...


@runtime_checkable
class ActsAfterStep(Protocol):
    """A network or classifier that changes its weights during training by itself, e.g. by a projection."""

    def after_step(self, last_of_epoch: bool) -> None:
        """Apply the change; called after each optimizer step."""


@runtime_checkable
class ScalesLearningRate(Protocol):
    """A part of a network whose parameters have a learning rate of their own."""

    def lr_factors(self) -> dict[nn.Parameter, float]:
        """The multiplier of the learning rate for each such parameter, the same throughout training."""
        ...


class FeatureNetwork(Protocol):
    """A network whose features and classifier can be used apart: ``classifier(features(images))`` are its logits."""

    classifier: Any

    def features(self, images: Tensor) -> Tensor:
        """Images (N, channels, H, W) to features (N, D)."""
        ...


def is_feature_network(network: Any) -> TypeGuard[FeatureNetwork]:
    """Whether it has both. From Python 3.12 on ``isinstance`` does not see the modules of an ``nn.Module``."""
    return callable(getattr(network, "features", None)) and hasattr(network, "classifier")


@runtime_checkable
class TimmNetwork(Protocol):
    """The same, with timm's names."""

    def forward_features(self, x: Tensor) -> Tensor: ...

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor: ...

    def get_classifier(self) -> Any: ...


@runtime_checkable
class TwoPartView(Protocol):
    """A view of which only ``crop`` needs the single picture; its ``image`` does both.

    Of a set of files the workers do ``crop``, and ``finish`` is done to whole batches on the device. Of a view without
    these methods the workers do all.
    """

    def crop(self, image: Tensor) -> Tensor:
        """One decoded picture, uint8 (C, H, W), to uint8 (C, h, w), drawing from torch's global generator."""
        ...

    def finish(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """What follows: uint8 (N, C, h, w) to the same, with separate draws from ``generator`` for each image."""
        ...
