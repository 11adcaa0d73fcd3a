"""A view followed by further transforms."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from carlt.aug.batch import BatchTransform, global_generator
from carlt.protocols import TwoPartView


class Compose:
    """``view``, then each of ``transforms``: uint8 (C, H, W) to the same.

    carlt's own transforms (``BatchTransform``) take whole batches. Any other takes one image at a time and draws from
    torch's global generator, as torchvision's do; of a set of files the workers do it, with all that comes before it.
    """

    def __init__(self, view: Any, transforms: Sequence[Callable[[Tensor], Tensor]]):
        self.view, self.transforms = view, transforms
        single = [step for step, each in enumerate(transforms, 1) if not isinstance(each, BatchTransform)]
        self.single = max(single, default=0)
        """How many of the first transforms run on single images."""

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        images = self.view(images, generator)
        for each in self.transforms:
            images = (
                each.batch(images, generator) if isinstance(each, BatchTransform) else _all(each, images, generator)
            )
        return images

    def crop(self, image: Tensor) -> Tensor:
        if not self.single:
            return self.view.crop(image) if isinstance(self.view, TwoPartView) else self.view.image(image)
        image = self.view.image(image)
        for each in self.transforms[: self.single]:
            image = each(image)
        return image

    def finish(self, images: Tensor, generator: torch.Generator) -> Tensor:
        if not self.single and isinstance(self.view, TwoPartView):
            images = self.view.finish(images, generator)
        for each in self.transforms[self.single :]:
            assert isinstance(each, BatchTransform)
            images = each.batch(images, generator)
        return images

    def image(self, image: Tensor) -> Tensor:
        return self.finish(self.crop(image)[None], global_generator())[0]


def _all(transform: Callable[[Tensor], Tensor], images: Tensor, generator: torch.Generator) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        return torch.stack([transform(image) for image in images])
