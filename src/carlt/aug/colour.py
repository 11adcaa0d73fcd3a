"""Colour changes of a whole batch at once, each image with its own factor.

Each function takes images in [0, 1], (N, C, H, W), and factors (N,), and does to each image what torchvision's
``adjust_*`` does. Grey images (C = 1) have no saturation and no hue.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from carlt.aug.batch import change_groups, to_device_of, uniform

LUMA = (0.2989, 0.587, 0.114)


def grey(images: Tensor) -> Tensor:
    """Luminance, (N, 1, H, W)."""
    if images.shape[1] == 1:
        return images
    return (images * to_device_of(torch.tensor(LUMA), images)[:, None, None]).sum(1, keepdim=True)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with black: 0 is black, 1 the image."""
    return (images * _column(factor)).clamp(0, 1)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the mean luminance: 0 is even grey, 1 the image."""
    return _blend(images, grey(images).mean((1, 2, 3), keepdim=True), factor)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the image's luminance: 0 is grey, 1 the image."""
    return images if images.shape[1] == 1 else _blend(images, grey(images), factor)


def hue(images: Tensor, factor: Tensor) -> Tensor:
    """Turn the hue by ``factor`` of the circle, in [-0.5, 0.5], in HSV space."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    value, low = images.amax(1), images.amin(1)
    chroma = value - low
    safe = torch.where(chroma > 0, chroma, 1.0)
    sixth = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    sixth = sixth + 6 * factor[:, None, None]
    # Channel n of HSV to RGB: value - chroma * max(0, min(k, 4 - k, 1)), k = (n + sixth) mod 6, n = 5, 3, 1.
    k = (to_device_of(torch.tensor([5, 3, 1]), images)[:, None, None] + sixth[:, None]) % 6
    return value[:, None] - chroma[:, None] * torch.minimum(k, 4 - k).clamp(0, 1)


def blur(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Gaussian blur of standard deviation ``sigma`` pixels, cut off at ``radius``; the border is mirrored."""
    n, channels, height, width = images.shape
    if not n:
        return images
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)
    flat = images.reshape(1, n * channels, height, width)
    flat = torch.nn.functional.pad(flat, (radius,) * 4, mode="reflect")
    flat = torch.nn.functional.conv2d(flat, kernel[:, None, None, :], groups=n * channels)
    flat = torch.nn.functional.conv2d(flat, kernel[:, None, :, None], groups=n * channels)
    return flat.view_as(images)


def to_bytes(images: Tensor) -> Tensor:
    """Images in [0, 1] as uint8."""
    return (images * 255).round().clamp(0, 255).to(torch.uint8)


class Jitter:
    """Change brightness, contrast, saturation and hue of images in [0, 1], (N, C, H, W), in a random order.

    Each image has its own order and factors: 1 +- ``brightness``, ``contrast`` and ``saturation`` (not below 0), and
    +- ``hue`` of the circle. An image is changed with ``probability``.
    """

    def __init__(self, brightness: float, contrast: float, saturation: float, hue: float, probability: float = 1.0):
        widths = torch.tensor([[brightness], [contrast], [saturation], [hue]])
        middle = torch.tensor([[1.0], [1.0], [1.0], [0.0]])
        self.low, self.high = middle - widths, middle + widths
        self.low[:3].clamp_min_(0)
        self.probability = probability

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        draws = uniform(images, 9, generator)
        factors = self.low + (self.high - self.low) * draws[:4]
        for which in draws[4:8].argsort(0).where(draws[8] < self.probability, 4):
            changes = [partial(_changed, change, factor) for change, factor in zip(CHANGES, factors, strict=True)]
            images = change_groups(images, which, [*changes, None])
        return images


CHANGES = (brightness, contrast, saturation, hue)


def _changed(change: Callable[[Tensor, Tensor], Tensor], factors: Tensor, images: Tensor, indices: Tensor) -> Tensor:
    return change(images, to_device_of(factors[indices], images))


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(other.expand_as(images), images, _column(factor)).clamp(0, 1)


def _column(factor: Tensor) -> Tensor:
    return factor.view(-1, 1, 1, 1)
