"""A view followed by further transforms, and two transforms that torchvision lacks."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

from carlt.ranges import NonNegative, checked


class Compose:
    """``view``, then each of ``transforms`` on each image: uint8 (C, H, W) to the same."""

    def __init__(self, view: Any, transforms: Sequence[Callable[[Tensor], Tensor]]):
        self.view, self.transforms = view, transforms

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        views = self.view(images, generator)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            return torch.stack([self._transformed(view) for view in views])

    def image(self, image: Tensor) -> Tensor:
        return self._transformed(self.view.image(image))

    def _transformed(self, view: Tensor) -> Tensor:
        for transform in self.transforms:
            view = transform(view)
        return view


class CifarAutoAugment(v2.AutoAugment):
    """AutoAugment with the policy found for CIFAR-10 (Cubuk et al., CVPR 2019, table 7)."""

    def __init__(self) -> None:
        super().__init__(v2.AutoAugmentPolicy.CIFAR10)


class Cutout:
    """Black out one square at a random place, cut off at the border (DeVries & Taylor, arXiv 1708.04552).

    ``share`` is the square's side over the image's; 1/2 is the paper's 16 of 32 pixels (CIFAR-10).
    """

    @checked
    def __init__(self, share: NonNegative = 0.5):
        self.share = share

    def __call__(self, image: Tensor) -> Tensor:
        height, width = image.shape[1:]
        tall, wide = round(height * self.share), round(width * self.share)
        top, left = int(torch.randint(height, ())) - tall // 2, int(torch.randint(width, ())) - wide // 2
        image = image.clone()
        image[:, max(top, 0) : top + tall, max(left, 0) : left + wide] = 0
        return image
