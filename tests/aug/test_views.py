"""Both forms of every view: of a batch and of a single image."""

import re
from collections import Counter

import pytest
import torch
from torch import Tensor
from torchvision.transforms import RandomResizedCrop, v2

from carlt import aug
from carlt.aug import CifarAutoAugment, Compose, CropFlip, Cutout, Resize, ResizedCropFlip
from carlt.aug.views import crop_elongated
from carlt.protocols import TwoPartView
from carlt.testing import views as checks
from carlt.testing.part import Check, Part

VIEWS = [
    Part(Resize, {"ratio": 1.25}),
    Part(CropFlip, {"padding": 2}),
    Part(ResizedCropFlip, {"scale": (0.3, 1.0), "jitter": 0.4}),
    Part(Compose, {"view": CropFlip(8, padding=2), "transforms": [CifarAutoAugment(), Cutout()]}),
    Part(Compose, {"view": CropFlip(8, padding=2), "transforms": [v2.RandomInvert(), Cutout()]}),
    *(Part(view) for view in map(vars(aug).get, aug.__all__) if hasattr(view, "image") and view is not Compose),
]


def name(view: Part) -> str:
    """The same in every process: without addresses of objects."""
    return re.sub(r"<([\w.]+) object at \w+>", r"\1", str(view))


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (6, 3, 12, 12), dtype=torch.uint8, generator=generator(0))


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("view", VIEWS, ids=name)
def test_every_view(view: Part, check: Check) -> None:
    """The checks of ``carlt.testing.check_view``, each by itself."""
    check(view)


@pytest.mark.parametrize(
    "part", [view for view in VIEWS if view.kind in (CropFlip, ResizedCropFlip, Compose)], ids=name
)
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


def test_resize_with_a_ratio_cuts_a_border_off_images_of_the_right_size() -> None:
    """Of 12 pixels scaled to 15 the middle 12 are left: the k-th shows what was at 0.8 (k + 2.5) - 0.5."""
    ramp = (20 * torch.arange(12)).to(torch.uint8).expand(1, 12, 12)
    expected = 20 * (0.8 * (torch.arange(12) + 2.5) - 0.5)
    view = Resize(12, ratio=1.25)
    seen = view.image(ramp)
    assert (seen - expected).abs().max() <= 1
    assert torch.equal(view(ramp[None], generator(0))[0], seen)


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


def test_crops_of_a_batch_are_those_of_single_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same box gives the same crop, to rounding."""
    pictures = torch.randint(0, 256, (40, 3, 30, 26), dtype=torch.uint8, generator=generator(0))
    for size in (8, 26, 50):
        view = ResizedCropFlip(size, flip=False)
        (top, left), (height, width) = view._boxes(pictures, generator(1))
        boxes = iter(torch.stack([top, left, height, width], 1).tolist())
        monkeypatch.setattr(RandomResizedCrop, "get_params", lambda *_, boxes=boxes: next(boxes))
        single = torch.stack([view.crop(picture) for picture in pictures])
        assert (view(pictures, generator(1)).int() - single.int()).abs().max() <= 2


@pytest.mark.parametrize(
    ("scale", "ratio"), [((0.08, 1.0), (3 / 4, 4 / 3)), ((0.9, 1.0), (3.0, 4.0)), ((1.0, 1.0), (0.1, 0.2))]
)
def test_boxes_are_distributed_as_torchvisions(scale: tuple[float, float], ratio: tuple[float, float]) -> None:
    """Also where no box fits, and all take the largest one of the nearest ratio in the middle."""
    draws, given = 3000, torch.zeros(3000, 1, 40, 30, dtype=torch.uint8)
    start, size = ResizedCropFlip(8, scale=scale, ratio=ratio)._boxes(given, generator(0))
    torch.manual_seed(0)
    theirs = [RandomResizedCrop.get_params(given[0], list(scale), list(ratio)) for _ in range(draws)]
    for a, b in zip(torch.cat([start, size]).double(), torch.tensor(theirs).double().T, strict=True):
        assert a.min() == b.min() or a.std() > 1
        assert (a.mean() - b.mean()).abs() <= 4 * ((a.var() + b.var()) / draws).sqrt()
        assert (a.std() - b.std()).abs() <= 0.1 * b.std()


def test_jittered_colours_are_distributed_as_torchvisions() -> None:
    image, draws = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8, generator=generator(0)), 2000
    image = image // 2 + 40
    ours = ResizedCropFlip(8, flip=False, jitter=0.4).finish(image.expand(draws, -1, -1, -1), generator(1)).double()
    torch.manual_seed(0)
    jitter = v2.ColorJitter(0.4, 0.4, 0.4)
    theirs = torch.stack([jitter(image) for _ in range(draws)]).double()
    for measure in (
        lambda x: x.mean((1, 2, 3)),  # moved by the brightness,
        lambda x: x.mean(1).std((1, 2)),  # by the contrast,
        lambda x: (x.amax(1) - x.amin(1)).mean((1, 2)),  # and by the saturation most of all
    ):
        a, b = measure(ours), measure(theirs)
        assert (a.mean() - b.mean()).abs() < 4 * ((a.var() + b.var()) / draws).sqrt()
        assert (a.std() - b.std()).abs() < 0.1 * b.std()


def test_what_needs_single_images_is_cropped_and_the_rest_finished() -> None:
    """torchvision's transforms, and all that precedes them, take single images; what follows takes batches."""
    picture = torch.full((3, 20, 14), 100, dtype=torch.uint8)
    invert, cutout = v2.RandomInvert(1.0), Cutout()
    for transforms, cropped in (([cutout], 100), ([invert, cutout], 155), ([cutout, invert, invert], 100)):
        view = Compose(Resize(8), transforms)
        assert isinstance(view, TwoPartView)
        crop = view.crop(picture)
        assert crop.shape == (3, 8, 8)
        assert (crop == cropped).any()
        holes = (crop == (255 if cropped == 155 else 0)).any()
        assert holes == (transforms[0] is cutout and len(transforms) == 3)
        finished = view.finish(crop[None], generator(0))
        assert torch.equal(finished[0], crop) == (transforms[-1] is invert)
        assert view.image(picture).shape == view(picture[None], generator(0))[0].shape == (3, 8, 8)


@pytest.mark.parametrize(("height", "width"), [(9, 60), (61, 9), (1, 40)])
def test_of_an_elongated_image_only_the_middle_is_scaled(height: int, width: int) -> None:
    down, right = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = (4 * (down + right)).to(torch.uint8).expand(3, -1, -1)
    cut = crop_elongated(image)
    short, long = sorted((height, width))
    assert sorted(cut.shape[1:]) == [short, 2 * short + long % 2]
    whole, found = Resize(8, 1.25).transform(image), Resize(8, 1.25).crop(image)
    assert (found.int() - whole.int()).abs().max() <= 4  # the same place, to one pixel of the image
    assert crop_elongated(image[:, :short, : 4 * short]).shape == image[:, :short, : 4 * short].shape
