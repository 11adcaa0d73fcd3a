"""A data set of one's own."""

import math
from typing import Any

import torch

from carlt.data import ArrayImages, LongTailDataModule, Split, Splits
from carlt.functional.profile import PROFILES
from carlt.ranges import AtLeastOne, Count, checked

CLASSES = 6


class Stripes(LongTailDataModule):
    """Grey 12 x 12 images of noisy stripes in six directions, which are drawn when they are read.

    A set of files gives ``FileImages(root, paths)`` in place of ``ArrayImages``; they are decoded when they are needed.

    Args:
        imbalance_factor: largest class over smallest, at least 1.
        largest_class: training images of class 0.
    """

    name = "stripes"
    channels = 1
    mean, std = (0.5,), (0.37,)

    @checked
    def __init__(self, *, imbalance_factor: AtLeastOne = 20, largest_class: Count = 60, **loading: Any):
        super().__init__(**loading)
        self.counts = PROFILES["exponential"](largest_class, CLASSES, imbalance_factor)

    def load(self) -> Splits:
        generator = torch.Generator().manual_seed(0)
        return Splits(
            train=draw(self.counts, generator),
            val=draw(torch.full((CLASSES,), 10), generator),
            test=draw(torch.full((CLASSES,), 20), generator),
            class_names=[f"{30 * label} degrees" for label in range(CLASSES)],
        )


def draw(counts: torch.Tensor, generator: torch.Generator) -> Split:
    """So many images of each class, with a random phase each."""
    targets = torch.arange(CLASSES).repeat_interleave(counts)
    rows, columns = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    angle = math.pi / CLASSES * targets[:, None, None]
    phase = 2 * math.pi * torch.rand(len(targets), 1, 1, generator=generator)
    grey = 0.5 + 0.5 * torch.sin(1.2 * (rows * angle.cos() + columns * angle.sin()) + phase)
    grey = (grey + 0.1 * torch.randn(grey.shape, generator=generator)).clamp(0, 1)
    return Split(ArrayImages((255 * grey).round().to(torch.uint8)[:, None]), targets)
