"""The operations of AutoAugment and RandAugment on whole batches, each image with an operation and a level of its own.

Arithmetic is in integers, or rounded after each step, so that every device gives the same bytes. Pillow's rules hold,
which torchvision follows to one or two levels of 255. Images have one or three channels.
"""

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from carlt.aug.batch import change_groups, to_device_of

OPERATIONS = (
    "Identity", "Brightness", "Posterize", "Solarize", "SolarizeAdd", "Invert", "Contrast", "AutoContrast", "Equalize",
    "Color", "Sharpness", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate",
)  # fmt: skip
"""An operation's ``kind`` is its index here. Unit of ``level``: Brightness, Contrast, Color, Sharpness: factor, 1
changes nothing; Posterize: bits kept; Solarize: pixels from this value on are inverted; SolarizeAdd: added to values
below 128; ShearX, ShearY: slope; TranslateX, TranslateY: pixels right, down; Rotate: degrees counter-clockwise."""

NEAREST, BILINEAR, BICUBIC = 1, 2, 4
"""Pixels that are read along each side for one of the result."""

POSTERIZE, SOLARIZE, SOLARIZE_ADD, INVERT = range(2, 6)
SHEAR_X, SHEAR_Y, TRANSLATE_X, TRANSLATE_Y, ROTATE = range(11, 16)
BITS = 16
ONE = 1 << (BITS + 1)
"""A pixel's width: positions are whole numbers."""


class Operations(NamedTuple):
    """One operation of each image of a batch, on the host."""

    kind: Tensor
    """Index in ``OPERATIONS``, int64 (N,)."""
    level: Tensor
    """In the operation's unit, (N,)."""
    taps: Tensor
    """How shears, translations and rotations interpolate: ``NEAREST``, ``BILINEAR`` or ``BICUBIC``, int64 (N,)."""


def kinds(*names: str) -> Tensor:
    """Indices in ``OPERATIONS``."""
    return torch.tensor([OPERATIONS.index(name) for name in names])


def apply(images: Tensor, operations: Operations, fill: tuple[int, ...] = (0, 0, 0)) -> Tensor:
    """Change each image, uint8 (N, C, H, W) to the same; ``fill`` is the colour of what comes in at the border."""
    kind, level, taps = operations
    affine = [partial(_affine, operations=operations, taps=count, fill=fill) for count in (NEAREST, BILINEAR, BICUBIC)]
    group = torch.where(kind < SHEAR_X, kind, SHEAR_X + taps // 2)
    pixelwise = partial(_by_value, kind=kind, level=level)
    changes = [
        None, partial(_brightness, level=level), *[pixelwise] * 4, partial(_contrast, level=level), _autocontrast,
        _equalize,
        partial(_colour, level=level), partial(_sharpness, level=level), *affine,
    ]  # fmt: skip
    return change_groups(images, group, changes)


def grey(images: Tensor) -> Tensor:
    """Luminance by Pillow's integers, int32 (N, 1, H, W)."""
    if images.shape[1] == 1:
        return images.int()
    red, green, blue = images.int().split(1, 1)
    return (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16


def _look_up(images: Tensor, table: Tensor) -> Tensor:
    """Replace values by ``table``, uint8 (n, 1 or C, 256)."""
    table = table.expand(-1, images.shape[1], -1)
    return table.gather(2, images.flatten(2).long()).view_as(images)


def _blend(values: Tensor, start: Tensor, factor: Tensor) -> Tensor:
    """start + factor (values - start), cut to bytes; two roundings everywhere."""
    start = start.float()
    return (values.float() - start).mul_(factor).add_(start).clamp_(0, 255).to(torch.uint8)


def _by_value(images: Tensor, indices: Tensor, kind: Tensor, level: Tensor) -> Tensor:
    values, level, which = torch.arange(256), level[indices][:, None], int(kind[indices[0]])
    if which == POSTERIZE:
        table = values & (256 - 2 ** (8 - level.long()))
    elif which == SOLARIZE:
        table = torch.where(values >= level, 255 - values, values)
    elif which == SOLARIZE_ADD:
        table = torch.where(values < 128, (values + level.long()).clamp(0, 255), values)
    else:
        table = (255 - values).expand(len(indices), -1)
    return _look_up(images, to_device_of(table.to(torch.uint8), images)[:, None])


def _brightness(images: Tensor, indices: Tensor, level: Tensor) -> Tensor:
    return images.float().mul_(to_device_of(level[indices], images)[:, None, None, None]).clamp_(0, 255).to(torch.uint8)


def _contrast(images: Tensor, indices: Tensor, level: Tensor) -> Tensor:
    brightness, pixels = grey(images).flatten(1).sum(1), images.shape[2] * images.shape[3]
    mean = ((2 * brightness + pixels) // (2 * pixels))[:, None, None, None]
    return _blend(images, mean, to_device_of(level[indices], images)[:, None, None, None])


def _autocontrast(images: Tensor, indices: Tensor) -> Tensor:
    low, high = (bound[:, :, None].int() for bound in images.flatten(2).aminmax(dim=2))
    values = torch.arange(256, device=images.device)
    table = (values - low).clamp_min(0) * 255 // (high - low).clamp_min(1)
    return _look_up(images, torch.where(high > low, table.clamp_max(255), values).to(torch.uint8))


def _equalize(images: Tensor, indices: Tensor) -> Tensor:
    flat = images.flatten(2).long()
    histogram = flat.new_zeros(*flat.shape[:2], 256).scatter_add_(2, flat, flat.new_ones(()).expand_as(flat))
    darker = histogram.cumsum(2) - histogram
    step = darker.gather(2, flat.amax(2, keepdim=True)) // 255
    table = ((step // 2 + darker) // step.clamp_min(1)).clamp_max(255)
    return _look_up(images, torch.where(step > 0, table, torch.arange(256, device=images.device)).to(torch.uint8))


def _colour(images: Tensor, indices: Tensor, level: Tensor) -> Tensor:
    return _blend(images, grey(images), to_device_of(level[indices], images)[:, None, None, None])


def _sharpness(images: Tensor, indices: Tensor, level: Tensor) -> Tensor:
    if min(images.shape[2:]) < 3:
        return images
    whole = images.int()
    rows = whole[:, :, :-2] + whole[:, :, 1:-1] + whole[:, :, 2:]
    around = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    inner = whole[..., 1:-1, 1:-1]
    blurred = (2 * (around + 4 * inner) + 13) // 26  # the middle counts 5 of 13
    sharp = images.clone()
    sharp[..., 1:-1, 1:-1] = _blend(inner, blurred, to_device_of(level[indices], images)[:, None, None, None])
    return sharp


def _affine(images: Tensor, indices: Tensor, operations: Operations, taps: int, fill: tuple[int, ...]) -> Tensor:
    """Shear, translate or rotate: read each output pixel where the inverse affine map puts its centre."""
    height, width = images.shape[2:]
    fixed = (_inverse(operations.kind[indices], operations.level[indices], height, width) * 2**BITS).round().long()
    a, b, c, d, e, f = to_device_of(fixed, images).T[:, :, None, None]
    across = 2 * torch.arange(width, device=images.device) + 1
    down = (2 * torch.arange(height, device=images.device) + 1)[:, None]
    x, y = a * across + b * down + 2 * c, d * across + e * down + 2 * f
    inside = ((x >= 0) & (x < width * ONE) & (y >= 0) & (y < height * ONE))[:, None]
    read = _read(images, x, y) if taps == NEAREST else _interpolate(images, x, y, taps)
    colour = to_device_of(torch.tensor(fill[: images.shape[1]], dtype=torch.uint8), images)[:, None, None]
    return torch.where(inside, read, colour)


def _inverse(kind: Tensor, level: Tensor, height: int, width: int) -> Tensor:
    """From a place in the result to that in the image: x' = a x + b y + c, y' = d x + e y + f, float64 (n, 6)."""
    level = level.double()
    zero = torch.zeros_like(level)

    def of(which: int) -> Tensor:
        return torch.where(kind == which, level, zero)

    angle = of(ROTATE) * (math.pi / 180)
    cosine, sine = angle.cos(), angle.sin()
    a, b, d, e = cosine, of(SHEAR_X) - sine, of(SHEAR_Y) + sine, cosine
    rotated = kind == ROTATE
    x, y = width / 2 * rotated, height / 2 * rotated  # the fixed point of a rotation; that of a shear is a corner
    return torch.stack([a, b, x - a * x - b * y - of(TRANSLATE_X), d, e, y - d * x - e * y - of(TRANSLATE_Y)], 1)


def _read(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The pixels at (x, y), each (n, ...), at the border the nearest, (n, C, ...)."""
    height, width = images.shape[2:]
    row, column = y >> (BITS + 1), x >> (BITS + 1)  # in a ninth of the time of a division
    place = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    index = place.flatten(1)[:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, index).unflatten(2, place.shape[1:])


def _interpolate(images: Tensor, x: Tensor, y: Tensor, taps: int) -> Tensor:
    x, y = x - ONE // 2, y - ONE // 2
    across, down = (_weights((position & (ONE - 1)).float() / ONE, taps) for position in (x, y))
    steps = torch.arange(1 - taps // 2, 1 + taps // 2, device=images.device) * ONE
    columns = x[:, None] + steps[:, None, None]
    rows = [
        (_read(images, columns, (y + step)[:, None]) * across[:, None]).sum(2) * weight[:, None]
        for step, weight in zip(steps, down.unbind(1), strict=True)
    ]
    return torch.stack(rows).sum(0).round().clamp(0, 255).to(torch.uint8)


def _weights(t: Tensor, taps: int) -> Tensor:
    """Of the pixels around a place ``t`` behind the second (bicubic) or first one (n, H, W), (n, taps, H, W)."""
    if taps == BILINEAR:
        return torch.stack([1 - t, t], 1)
    return torch.stack([-t + 2 * t**2 - t**3, 1 - 2 * t**2 + t**3, t + t**2 - t**3, t**3 - t**2], 1)  # Pillow's: a = -1
