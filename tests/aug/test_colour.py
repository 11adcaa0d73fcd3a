"""Colours of a batch are torchvision's of each image."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from carlt.aug import Cutout, SimCLR, colour

IMAGES = torch.rand(6, 3, 9, 12, generator=torch.Generator().manual_seed(0))
IMAGES[0] = 0.5  # grey
IMAGES[1, :, :4] = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
FACTORS = torch.tensor([0.0, 0.3, 0.7, 1.0, 1.2, 1.6])


@pytest.mark.parametrize(
    ("ours", "theirs", "factors"),
    [
        (colour.brightness, tv.adjust_brightness, FACTORS),
        (colour.contrast, tv.adjust_contrast, FACTORS),
        (colour.saturation, tv.adjust_saturation, FACTORS),
        (colour.hue, tv.adjust_hue, torch.tensor([-0.5, -0.2, 0.0, 0.1, 0.3, 0.5])),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_as_torchvision(ours: Callable, theirs: Callable, factors: Tensor) -> None:
    expected = torch.stack([theirs(image, float(factor)) for image, factor in zip(IMAGES, factors, strict=True)])
    torch.testing.assert_close(ours(IMAGES, factors), expected, rtol=0, atol=2e-3)  # hue: torchvision rounds more


def test_blur_as_torchvision() -> None:
    sigmas = torch.tensor([0.1, 0.5, 1.0, 1.5, 2.0, 2.0])
    expected = [tv.gaussian_blur(image, [9, 9], [float(s)] * 2) for image, s in zip(IMAGES, sigmas, strict=True)]
    torch.testing.assert_close(colour.blur(IMAGES, sigmas, 4), torch.stack(expected))


def test_grey_images_stay_grey() -> None:
    images = IMAGES[:, :1]
    assert torch.equal(colour.saturation(images, FACTORS), images)
    assert torch.equal(colour.hue(images, FACTORS), images)
    assert SimCLR(8).image((images[0] * 255).to(torch.uint8)).shape == (1, 8, 8)


def test_simclr_without_colours_is_the_crop() -> None:
    image = (IMAGES[2] * 255).to(torch.uint8)
    plain = SimCLR(8, jitter_probability=0, grey_probability=0, blur_probability=0)
    torch.manual_seed(3)
    ours = plain.image(image)
    torch.manual_seed(3)
    assert torch.equal(ours, plain.crop.image(image))


def test_some_are_grey_some_are_blurred() -> None:
    image = (torch.rand(3, 16, 16) * 255).to(torch.uint8)
    torch.manual_seed(0)
    views = torch.stack([SimCLR(16, jitter_probability=0).image(image) for _ in range(300)]).float()
    grey = (views[:, 0] == views[:, 1]).all((1, 2)).float().mean()
    assert 0.13 < grey < 0.27


def test_cutout_blackens_one_square() -> None:
    image = torch.full((3, 10, 12), 9, dtype=torch.uint8)
    holes = []
    for seed in range(200):
        torch.manual_seed(seed)
        hole = (Cutout()(image) == 0).all(0)
        rows, columns = hole.any(1).sum(), hole.any(0).sum()
        assert hole.sum() == rows * columns
        holes.append((int(rows), int(columns)))
    assert (image == 9).all()
    assert max(holes) == (5, 6)
    assert min(rows for rows, _ in holes) < 5  # cut off at the border
