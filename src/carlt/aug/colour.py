"""Colour changes of a whole batch at once, each image with its own factor.

Each function takes images in [0, 1], (N, C, H, W), and factors (N,), and does to each image what torchvision's
``adjust_*`` does. Grey images (C = 1) have no saturation and no hue.
"""

import torch
from torch import Tensor

LUMA = (0.2989, 0.587, 0.114)


def grey(images: Tensor) -> Tensor:
    """Luminance, (N, 1, H, W)."""
    if images.shape[1] == 1:
        return images
    return (images * images.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)


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
    k = (images.new_tensor([5, 3, 1])[:, None, None] + sixth[:, None]) % 6
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


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(other.expand_as(images), images, _column(factor)).clamp(0, 1)


def _column(factor: Tensor) -> Tensor:
    return factor.view(-1, 1, 1, 1)
