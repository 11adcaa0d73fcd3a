"""What loaders serve, and how they are told to look at images."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]


class Batch(NamedTuple):
    """What one training step sees; the last two only where somebody asked for them."""

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
    """One random (or fixed) look at an image; carlt.aug has them."""

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """uint8 (N, C, H, W) to uint8 (N, C, h, w), every image with draws of its own from ``generator``."""
        ...

    def image(self, image: Tensor) -> Tensor:
        """One decoded picture, uint8 (C, H, W), to uint8 (C, h, w), drawing from torch's global generator."""
        ...


class Foreground(Protocol):
    """Which batches are mixed with which images; carlt.aug.Paste is one."""

    power: float
    first: int
    """The first epoch in which batches are mixed."""

    def is_mixed(self, epoch: int, point: float) -> bool:
        """Whether a batch of ``epoch`` whose draw is ``point``, uniform in [0, 1), is mixed."""
        ...


class Views(NamedTuple):
    """How training looks at its images: once for classification, ``copies`` times for contrast."""

    view: View
    contrast: View | None = None
    copies: int = 0
    foreground: Foreground | None = None
