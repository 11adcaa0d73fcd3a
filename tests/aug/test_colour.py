"""Colours of a batch are torchvision's of each image."""

from collections.abc import Callable
from itertools import permutations

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from carlt.aug import Cutout, RandomErasing, ResizedCropFlip, SimCLR, colour

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
    assert torch.equal(ours, ResizedCropFlip(8, scale=(0.2, 1.0)).image(image))


def test_jitter_changes_each_image_in_its_own_order() -> None:
    """The 24 orders give different images, and are equally likely; one image in five stays as it is."""
    image, draws = IMAGES[2:3], 4000
    constant = colour.Jitter(0.0, 0.0, 0.0, 0.0, 0.8)
    constant.low = constant.high = torch.tensor([[1.3], [1.4], [1.5], [0.1]])
    changes = [colour.brightness, colour.contrast, colour.saturation, colour.hue]
    expected = [image]
    for order in permutations(range(4)):
        changed = image
        for which in order:
            changed = changes[which](changed, constant.low[which])
        expected.append(changed)
    expected = torch.cat(expected).flatten(1)
    seen = constant(image.expand(draws, -1, -1, -1), torch.Generator().manual_seed(0)).flatten(1)
    distance, nearest = torch.cdist(seen, expected, compute_mode="donot_use_mm_for_euclid_dist").min(1)
    assert distance.max() < 1e-4
    kept, *orders = nearest.bincount(minlength=25).tolist()
    assert 700 < kept < 900
    assert all(85 < count < 185 for count in orders)  # 133 each, five standard deviations are 57


def test_jitter_draws_factors_as_torchvision() -> None:
    jitter = colour.Jitter(0.4, 0.4, 1.5, 0.1)
    assert jitter.low.flatten().tolist() == pytest.approx([0.6, 0.6, 0.0, -0.1])
    assert jitter.high.flatten().tolist() == pytest.approx([1.4, 1.4, 2.5, 0.1])


@pytest.mark.parametrize(
    ("options", "grey", "blurred"),
    [({}, 0.2, 0.5), ({"grey_probability": 0.4, "blur_probability": 0.1}, 0.4, 0.1)],
)
def test_some_are_grey_and_some_are_blurred_as_torchvision_blurs(options: dict, grey: float, blurred: float) -> None:
    generator, draws = torch.Generator().manual_seed(0), 2000
    image = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8, generator=generator)
    view = SimCLR(16, jitter_probability=0, **options)
    ours = view.finish(image.expand(draws, -1, -1, -1), generator).float()
    is_grey = (ours == ours[:, :1]).flatten(1).all(1)
    assert abs(is_grey.double().mean() - grey) < 5 * (grey * (1 - grey) / draws) ** 0.5
    torch.manual_seed(0)
    theirs = v2.RandomApply([v2.GaussianBlur(9, (0.1, 2.0))], blurred)
    expected = torch.stack([theirs(image) for _ in range(draws)]).float()
    a, b = ((images[..., 1:] - images[..., :-1]).abs().mean((1, 2, 3)) for images in (ours[~is_grey], expected))
    assert (a.mean() - b.mean()).abs() < 4 * (a.var() / len(a) + b.var() / len(b)).sqrt()
    assert (a.std() - b.std()).abs() < 0.1 * b.std()


@pytest.mark.parametrize(("share", "largest"), [(0.5, (5, 6)), (0.25, (2, 3)), (1.0, (10, 12))])
def test_cutout_blackens_one_square(share: float, largest: tuple[int, int]) -> None:
    image = torch.full((3, 10, 12), 9, dtype=torch.uint8)
    holes = []
    for seed in range(200):
        torch.manual_seed(seed)
        hole = (Cutout(share)(image) == 0).all(0)
        rows, columns = hole.any(1).sum(), hole.any(0).sum()
        assert hole.sum() == rows * columns
        holes.append((int(rows), int(columns)))
    assert (image == 9).all()
    assert max(holes) == largest
    assert min(rows for rows, _ in holes) < largest[0]  # cut off at the border


@pytest.mark.parametrize("options", [{}, {"p": 0.9, "scale": (0.1, 0.2), "ratio": (0.5, 1.0)}])
def test_random_erasing_as_torchvision(options: dict) -> None:
    """Area, shape and place of the rectangles are distributed as torchvision's."""
    image = torch.ones(1, 20, 30, dtype=torch.uint8)
    ours = RandomErasing(**options).batch(image.expand(4000, -1, -1, -1), torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    theirs = torch.stack([v2.RandomErasing(**options)(image) for _ in range(4000)])
    columns = torch.arange(30.0)
    for measure in (
        lambda hole: hole.any((1, 2)).double(),
        lambda hole: hole.double().mean((1, 2)),
        lambda hole: hole.any(1).sum(1).double(),
        lambda hole: (hole.any(1) * columns).sum(1).double(),
    ):
        a, b = (measure(images[:, 0] == 0) for images in (ours, theirs))
        assert (a.mean() - b.mean()).abs() < 4 * ((a.var() + b.var()) / 4000).sqrt()
    for hole in ours[:, 0] == 0:
        assert hole.sum() == hole.any(0).sum() * hole.any(1).sum()
