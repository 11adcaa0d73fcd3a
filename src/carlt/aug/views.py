"""Views: transforms of an image, uint8 to uint8, so that batches stay small until the device normalises them.

A view of carlt has two parts. ``crop`` does what must be done file by file in a worker: it makes pictures of any size
equal. ``finish`` does the rest to a whole batch, on the device that holds it.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import RandomResizedCrop, v2

from carlt.aug.batch import global_generator, to_device_of, uniform
from carlt.aug.erasing import draw_sizes
from carlt.aug.operations import NEAREST, Operations, apply, kinds
from carlt.ranges import Count, CountOrZero, NonNegative, Positive, PositiveShare, checked

JITTERED = kinds("Brightness", "Contrast", "Color")


class View(ABC):
    """The base of carlt's views: ``crop`` of one picture or ``crop_batch`` of equal-sized images, then ``finish``."""

    @abstractmethod
    def crop(self, image: Tensor) -> Tensor:
        """One picture, uint8 (C, H, W), at the size of the view; draws from torch's global generator."""

    @abstractmethod
    def crop_batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The same for equal-sized images, uint8 (N, C, H, W), with draws from ``generator``."""

    def finish(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The rest of the view, uint8 (N, C, h, w) to the same."""
        return images

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return self.finish(self.crop_batch(images, generator), generator)

    def image(self, image: Tensor) -> Tensor:
        """Both parts for one picture, with draws from torch's global generator."""
        return self.finish(self.crop(image)[None], global_generator())[0]


def crop_elongated(images: Tensor) -> Tensor:
    """The middle of elongated images (..., H, W): if the long side is more than four times the short one, a centre crop
    of twice the short side, all that a square in the centre needs. Scaled whole, a strip of 2 x 3,000 pixels would take
    hundreds of megabytes. Other images are returned as they are."""
    height, width = images.shape[-2:]
    short, long = sorted((height, width))
    if long <= 4 * short:
        return images
    kept = 2 * short + long % 2  # the same cut at both ends
    return images.narrow(-1 if width == long else -2, (long - kept) // 2, kept)


class Resize(View):
    """The whole image at ``image_size``: scale the shorter side to ``image_size * ratio``, then cut out the centre."""

    @checked
    def __init__(self, image_size: Count, ratio: Positive = 1.0):
        self.transform = v2.Compose([v2.Resize(round(image_size * ratio), antialias=True), v2.CenterCrop(image_size)])
        self.ratio = ratio

    def crop(self, image: Tensor) -> Tensor:
        return self.transform(crop_elongated(image) if self.ratio >= 1 else image)

    image = crop

    def crop_batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return self.crop(images)


class CropFlip(View):
    """Pad with zeros, crop back at a random place, mirror half of them: the CIFAR standard (He et al., 2016, 4.2).

    Args:
        image_size: side of the view in pixels; images of another size are resized first.
        padding: pixels on each side, at least 0.
        flip: whether half of the images are mirrored, left to right.
    """

    @checked
    def __init__(self, image_size: Count, padding: CountOrZero = 4, flip: bool = True):
        self.resize, self.padding, self.flip = Resize(image_size), padding, flip

    def crop(self, image: Tensor) -> Tensor:
        return self.resize.crop(image)

    def crop_batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return self.resize.crop_batch(images, generator)

    def finish(self, images: Tensor, generator: torch.Generator) -> Tensor:
        n, channels, height, width = images.shape
        offsets = to_device_of(torch.randint(0, 2 * self.padding + 1, (2, n), generator=generator), images)
        rows = offsets[0, :, None] + torch.arange(height, device=images.device)
        columns = offsets[1, :, None] + torch.arange(width, device=images.device)
        if self.flip:
            mirrored = to_device_of(torch.rand(n, generator=generator) < 0.5, images)
            columns = torch.where(mirrored[:, None], columns.flip(1), columns)
        padded = F.pad(images, (self.padding,) * 4)
        # One gather for the whole batch: the place of every output pixel in its flattened padded image.
        place = (rows[:, :, None] * padded.shape[3] + columns[:, None, :]).flatten(1)
        return padded.flatten(2).gather(2, place[:, None].expand(-1, channels, -1)).view_as(images)


class ResizedCropFlip(View):
    """A random crop of ``scale`` of the area at an aspect ``ratio``, resized, mirrored, and its colours jittered.

    The ImageNet standard (Szegedy et al., CVPR 2015, section 6). ``jitter`` is brightness, contrast and saturation.
    """

    tries = 10

    @checked
    def __init__(
        self,
        image_size: Count,
        scale: tuple[PositiveShare, PositiveShare] = (0.08, 1.0),
        ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3),
        flip: bool = True,
        jitter: NonNegative = 0.0,
    ):
        self.image_size, self.scale, self.ratio, self.flip = image_size, scale, ratio, flip
        self.jitter = jitter

    def crop(self, image: Tensor) -> Tensor:
        top, left, height, width = RandomResizedCrop.get_params(image, list(self.scale), list(self.ratio))
        part = image[None, :, top : top + height, left : left + width]
        return F.interpolate(part, (self.image_size,) * 2, mode="bilinear", antialias=True)[0]

    def crop_batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        start, size = self._boxes(images, generator)
        down, across = (
            _resize_weights(
                to_device_of(start[i], images), to_device_of(size[i], images), images.shape[2 + i], self.image_size
            )
            for i in range(2)
        )
        resized = down[:, None] @ images.float() @ across[:, None].mT
        return resized.round().clamp(0, 255).to(torch.uint8)

    def finish(self, images: Tensor, generator: torch.Generator) -> Tensor:
        if self.flip:
            mirrored = to_device_of(uniform(images, 1, generator)[0] < 0.5, images)
            images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        return self._jittered(images, generator) if self.jitter else images

    def _jittered(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """In a random order of each image, with bytes between the changes, as torchvision's ``ColorJitter``."""
        low, high = max(1 - self.jitter, 0), 1 + self.jitter
        factors, order = uniform(images, 6, generator).split(3)
        for which in order.argsort(0):
            level = low + (high - low) * factors.gather(0, which[None])[0]
            images = apply(images, Operations(JITTERED[which], level, torch.full_like(which, NEAREST)))
        return images

    def _boxes(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Where crops begin and their height and width, each (2, N), distributed as torchvision's."""
        draws, sides = uniform(images, 2 + 2 * self.tries, generator), torch.tensor(images.shape[2:])[:, None]
        low, high = self.ratio  # width over height
        size, fits = draw_sizes(draws[2:], sides, self.scale, (1 / high, 1 / low), largest=sides)
        height, width = images.shape[2:]
        whole = torch.tensor([[min(height, round(width / low))], [min(width, round(height * high))]])
        size = size.where(fits, whole)
        return (draws[:2] * (sides - size + 1)).long().where(fits, (sides - whole) // 2), size


def _resize_weights(start: Tensor, size: Tensor, side: int, result: int) -> Tensor:
    """How much of each of ``side`` pixels is in each of ``result``, (N, result, side); rows sum to 1.

    Bilinear with anti-aliasing: a triangle around the pixel's centre, as wide as the reduction, within the crop.
    """
    scale = size[:, None, None] / result
    centre = start[:, None, None] + scale * (torch.arange(result, device=start.device) + 0.5)[:, None]
    pixel = torch.arange(side, device=start.device)
    weights = (1 - (pixel + 0.5 - centre).abs() / scale.clamp_min(1)).clamp_min(0)
    weights = weights * ((pixel >= start[:, None, None]) & (pixel < (start + size)[:, None, None]))
    return weights / weights.sum(2, keepdim=True)
