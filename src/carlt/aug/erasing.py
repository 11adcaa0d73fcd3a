"""Blacking out part of each image of a batch."""

import math

import torch
from torch import Tensor

from carlt.aug.batch import BatchTransform, to_device_of, uniform
from carlt.ranges import NonNegative, Positive, Share, checked


class Cutout(BatchTransform):
    """Black out one square at a random place, cut off at the border (DeVries & Taylor, arXiv 1708.04552).

    ``share`` is the square's side over the image's; 1/2 is the paper's 16 of 32 pixels (CIFAR-10).
    """

    @checked
    def __init__(self, share: NonNegative = 0.5):
        self.share = share

    def batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        sides = torch.tensor(images.shape[2:])[:, None]
        size = (sides * self.share).round().long()
        start = (uniform(images, 2, generator) * sides).long() - size // 2
        return _blacken(images, start, start + size)


class RandomErasing(BatchTransform):
    """Black out a rectangle inside of the image (Zhong et al., AAAI 2020), as torchvision's defaults have it.

    Ten rectangles are drawn, and the first one that fits is taken; if none does, the image stays as it is.

    Args:
        p: probability per image.
        scale: of the rectangle's area over the image's.
        ratio: of the rectangle's sides, height over width.
    """

    tries = 10

    @checked
    def __init__(
        self, p: Share = 0.5, scale: tuple[Share, Share] = (0.02, 0.33), ratio: tuple[Positive, Positive] = (0.3, 3.3)
    ):
        self.p, self.scale, self.ratio = p, scale, ratio

    def batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        whether, *draws = uniform(images, 3 + 2 * self.tries, generator)
        sides = torch.tensor(images.shape[2:])[:, None]
        size, fits = draw_sizes(torch.stack(draws[2:]), sides, self.scale, self.ratio, largest=sides - 1)
        start = (torch.stack(draws[:2]) * (sides - size + 1)).long()
        return _blacken(images, start, start + size * (fits & (whether < self.p)))


def draw_sizes(
    draws: Tensor, sides: Tensor, scale: tuple[float, float], ratio: tuple[float, float], largest: Tensor
) -> tuple[Tensor, Tensor]:
    """The first of some rectangles that is no larger than ``largest``, as torchvision draws them.

    Args:
        draws: uniform, (2 T, N): of T tries the area and the ratio.
        sides: height and width of the image, (2, 1).
        scale: bounds of the rectangle's area over the image's.
        ratio: bounds of height over width; uniform in its logarithm.
        largest: height and width, at least 1, (2, 1).

    Returns:
        Height and width int64 (2, N), and whether any fitted (N,).
    """
    area, shape = draws.double().view(2, -1, draws.shape[1])
    area = sides.prod() * (scale[0] + (scale[1] - scale[0]) * area)
    shape = torch.exp(math.log(ratio[0]) + (math.log(ratio[1]) - math.log(ratio[0])) * shape)
    sizes = torch.stack([(area * shape).sqrt(), (area / shape).sqrt()]).round().long()  # (2, T, N)
    fits = ((sizes > 0) & (sizes <= largest[:, None])).all(0)
    first = fits.int().argmax(0)
    return sizes.gather(1, first.expand(2, 1, -1))[:, 0], fits.any(0)


def _blacken(images: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Set the rectangles from ``start`` up to ``end``, rows and columns (2, N) on the host, to 0."""
    (top, left), (bottom, right) = to_device_of(torch.stack([start, end]), images)[:, :, :, None]
    rows, columns = (torch.arange(side, device=images.device) for side in images.shape[2:])
    rows, columns = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    return images.masked_fill((rows[:, :, None] & columns[:, None])[:, None], 0)
