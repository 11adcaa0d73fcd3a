"""Both forms of every view: of a batch and of a single image."""

from collections import Counter

import pytest
import torch
from torch import Tensor

from carlt import aug
from carlt.aug import CifarAutoAugment, Compose, CropFlip, Cutout, Resize, ResizedCropFlip
from carlt.testing import views as checks
from carlt.testing.part import Check, Part

VIEWS = [
    Part(Resize, {"ratio": 1.25}),
    Part(CropFlip, {"padding": 2}),
    Part(ResizedCropFlip, {"scale": (0.3, 1.0), "jitter": 0.4}),
    Part(Compose, {"view": CropFlip(8, padding=2), "transforms": [CifarAutoAugment(), Cutout()]}),
    *(Part(view) for view in map(vars(aug).get, aug.__all__) if hasattr(view, "image") and view is not Compose),
]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (6, 3, 12, 12), dtype=torch.uint8, generator=generator(0))


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_every_view(view: Part, check: Check) -> None:
    """The checks of ``carlt.testing.check_view``, each by itself."""
    check(view)


@pytest.mark.parametrize("part", [view for view in VIEWS if view.kind in (CropFlip, ResizedCropFlip, Compose)], ids=str)
def test_every_image_has_draws_of_its_own(part: Part, images: Tensor) -> None:
    same = images[:1].repeat(32, 1, 1, 1)
    assert len({tuple(view.flatten().tolist()) for view in checks.build(part)(same, generator(0))}) > 16


def crops(image: Tensor, padding: int) -> dict[tuple[int, ...], tuple[int, int, bool]]:
    """Every crop of the padded image and of its mirror image, by slicing, with where it was cut."""
    side = image.shape[-1]
    padded = torch.zeros(image.shape[0], side + 2 * padding, side + 2 * padding, dtype=image.dtype)
    padded[:, padding : padding + side, padding : padding + side] = image
    found = {}
    for row in range(2 * padding + 1):
        for column in range(2 * padding + 1):
            crop = padded[:, row : row + side, column : column + side]
            found[tuple(crop.flatten().tolist())] = (row, column, False)
            found[tuple(crop.flip(2).flatten().tolist())] = (row, column, True)
    return found


@pytest.mark.parametrize("form", ["batch", "image"])
def test_crop_flip_draws_every_crop_equally_often(form: str) -> None:
    image = torch.arange(1, 17, dtype=torch.uint8).view(1, 4, 4)
    view, draws = CropFlip(4, padding=1), 3600
    if form == "batch":
        seen = view(image.repeat(draws, 1, 1, 1), generator(0))
    else:
        torch.manual_seed(0)
        seen = torch.stack([view.image(image) for _ in range(draws)])
    places = crops(image, padding=1)
    counts = Counter(places[tuple(crop.flatten().tolist())] for crop in seen)
    # 18 places, 200 draws each: five standard deviations are 70.
    assert len(counts) == 18
    assert all(130 < count < 270 for count in counts.values())


def test_crop_flip_without_mirroring() -> None:
    image = torch.arange(1, 17, dtype=torch.uint8).view(1, 4, 4)
    places = crops(image, padding=1)
    seen = CropFlip(4, padding=1, flip=False)(image.repeat(200, 1, 1, 1), generator(0))
    assert not any(places[tuple(crop.flatten().tolist())][2] for crop in seen)


def test_channels_move_together() -> None:
    image = torch.arange(1, 17, dtype=torch.uint8).view(1, 4, 4).repeat(3, 1, 1)
    seen = CropFlip(4, padding=1)(image.repeat(50, 1, 1, 1), generator(0))
    assert (seen == seen[:, :1]).all()


def test_resize_leaves_an_image_of_the_right_size(images: Tensor) -> None:
    assert torch.equal(Resize(12)(images, generator(0)), images)
    assert torch.equal(Resize(12).image(images[0]), images[0])


def test_resize_cuts_the_centre() -> None:
    wide = torch.zeros(1, 8, 24, dtype=torch.uint8)
    wide[:, :, 8:16] = 200
    assert (Resize(8).image(wide) == 200).all()


@pytest.mark.parametrize("ratio", [1.0, 1.25])
def test_resize_sees_the_same_in_both_forms(ratio: float, images: Tensor) -> None:
    view = Resize(8, ratio)
    assert torch.equal(view(images, generator(0)), torch.stack([view.image(image) for image in images]))


def test_resize_with_a_ratio_cuts_a_border_off_images_of_the_right_size(images: Tensor) -> None:
    view = Resize(12, ratio=1.25)
    assert torch.equal(view(images, generator(0)), torch.stack([view.image(image) for image in images]))


def test_resized_crop_flip_has_one_distribution_in_both_forms() -> None:
    # A left-to-right ramp: the mean of a crop says where it was cut, its slope whether it was mirrored.
    ramp = torch.linspace(0, 255, 16).round().to(torch.uint8).expand(1, 16, 16)
    view, draws = ResizedCropFlip(8, scale=(0.2, 0.5)), 2000
    batch = view(ramp.repeat(draws, 1, 1, 1), generator(0)).double()
    torch.manual_seed(0)
    single = torch.stack([view.image(ramp) for _ in range(draws)]).double()
    for measure in (lambda x: x.mean((1, 2, 3)), lambda x: (x[..., -1] > x[..., 0]).double().mean((1, 2))):
        a, b = measure(batch), measure(single)
        error = ((a.var() + b.var()) / draws).sqrt()
        assert (a.mean() - b.mean()).abs() < 4 * error
