"""The batches that loaders serve, and the views that make them."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]


class Batch(NamedTuple):
    """The input of one training step; the last two fields are None unless the loss or the augmentation needs them."""

    images: Tensor
    """uint8 (N, C, H, W)."""
    labels: Tensor
    """int64 (N,)."""
    contrast: Tensor | None = None
    """V further views of each image, uint8 (V, N, C, H, W)."""
    foreground: Pair | None = None
    """Images to paste from, or to mix with otherwise, and their labels, as ``images`` and ``labels``; only in a batch
    that is to be mixed."""


class View(Protocol):
    """A random or fixed transform of images; carlt.aug has them."""

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """uint8 (N, C, H, W) to uint8 (N, C, h, w), with separate draws from ``generator`` for each image."""
        ...

    def image(self, image: Tensor) -> Tensor:
        """One decoded picture, uint8 (C, H, W), to uint8 (C, h, w), drawing from torch's global generator."""
        ...


class Unchanged:
    """The view of images as they are stored."""

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return images

    def image(self, image: Tensor) -> Tensor:
        return image


class Foreground(Protocol):
    """Which batches are mixed with which images; carlt.aug.Paste is one."""

    power: float
    first: int
    """The first epoch in which batches are mixed."""

    def is_mixed(self, epoch: int, point: float) -> bool:
        """Whether a batch of ``epoch`` whose draw is ``point``, uniform in [0, 1), is mixed."""
        ...


class Views(NamedTuple):
    """The views of training: one for classification, ``copies`` for contrast."""

    view: View
    contrast: View | None = None
    copies: int = 0
    foreground: Foreground | None = None
