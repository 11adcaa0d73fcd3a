"""Views: transforms of an image, uint8 to uint8, so that batches stay small until the device normalises them.

Each view has two forms with the same distribution: called on a batch of equal-sized images it works on tensors and
draws from the generator it is given; ``image`` takes one decoded picture (C, H, W) in a worker and draws from torch's
global generator.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import RandomResizedCrop, v2

from carlt.ranges import CountOrZero, NonNegative, Positive, PositiveShare, checked


class Resize:
    """The whole image at ``image_size``: scale the shorter side to ``image_size * ratio``, then cut out the centre."""

    @checked
    def __init__(self, image_size: int, ratio: Positive = 1.0):
        self.transform = v2.Compose([v2.Resize(round(image_size * ratio), antialias=True), v2.CenterCrop(image_size)])

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return self.transform(images)

    def image(self, image: Tensor) -> Tensor:
        return self.transform(image)


class CropFlip:
    """Pad with zeros, crop back at a random place, mirror half of them: the CIFAR standard (He et al., 2016, 4.2)."""

    @checked
    def __init__(self, image_size: int, padding: CountOrZero = 4, flip: bool = True):
        self.resize, self.padding, self.flip = Resize(image_size), padding, flip

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        images = self.resize(images, generator)
        n, channels, height, width = images.shape
        offsets = torch.randint(0, 2 * self.padding + 1, (2, n), generator=generator).to(images.device)
        rows = offsets[0, :, None] + torch.arange(height, device=images.device)
        columns = offsets[1, :, None] + torch.arange(width, device=images.device)
        if self.flip:
            mirrored = (torch.rand(n, generator=generator) < 0.5).to(images.device)
            columns = torch.where(mirrored[:, None], columns.flip(1), columns)
        padded = F.pad(images, (self.padding,) * 4)
        # One gather for the whole batch: the place of every output pixel in its flattened padded image.
        place = (rows[:, :, None] * padded.shape[3] + columns[:, None, :]).flatten(1)
        return padded.flatten(2).gather(2, place[:, None].expand(-1, channels, -1)).view_as(images)

    def image(self, image: Tensor) -> Tensor:
        return self(self.resize.image(image)[None], global_generator())[0]


class ResizedCropFlip:
    """A random crop of ``scale`` of the area at an aspect ``ratio``, resized, mirrored, and its colours jittered.

    The ImageNet standard (Szegedy et al., CVPR 2015, section 6). ``jitter`` is brightness, contrast and saturation.
    """

    @checked
    def __init__(
        self,
        image_size: int,
        scale: tuple[PositiveShare, PositiveShare] = (0.08, 1.0),
        ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3),
        flip: bool = True,
        jitter: NonNegative = 0.0,
    ):
        self.image_size, self.scale, self.ratio, self.flip = image_size, list(scale), list(ratio), flip
        self.jitter = v2.ColorJitter(jitter, jitter, jitter) if jitter else None

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            return torch.stack([self.image(image) for image in images])

    def image(self, image: Tensor) -> Tensor:
        top, left, height, width = RandomResizedCrop.get_params(image, self.scale, self.ratio)
        crop = image[None, :, top : top + height, left : left + width]
        # Only the CPU interpolates bytes.
        size, on_cpu = (self.image_size,) * 2, crop.device.type == "cpu"
        resized = F.interpolate(crop if on_cpu else crop.float(), size, mode="bilinear", antialias=True)[0]
        view = resized if on_cpu else resized.round().to(torch.uint8)
        if self.flip and torch.rand(()) < 0.5:
            view = view.flip(-1)
        return self.jitter(view) if self.jitter else view


def global_generator() -> torch.Generator:
    """A generator seeded by torch's global one."""
    return torch.Generator().manual_seed(int(torch.randint(2**62, ())))
