"""A view of one's own: what is done to each training image."""

import torch
from torch import Tensor

from carlt.aug import Resize
from carlt.aug.views import global_generator
from carlt.ranges import CountOrZero, checked


class Roll:
    """The image at ``image_size``, moved right by up to ``shift`` pixels; what leaves it comes in on the left."""

    @checked
    def __init__(self, image_size: int, shift: CountOrZero = 2):
        self.resize, self.shift = Resize(image_size), shift

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        shifts = torch.randint(self.shift + 1, (len(images),), generator=generator).tolist()
        return torch.stack(
            [image.roll(by, -1) for image, by in zip(self.resize(images, generator), shifts, strict=True)]
        )

    def image(self, image: Tensor) -> Tensor:
        return self(image[None], global_generator())[0]
