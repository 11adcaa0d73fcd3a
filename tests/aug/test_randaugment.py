"""RandAugment and AutoAugment: torchvision's and timm's operations, levels and probabilities."""

import re

import pytest
import torch
from timm.data import auto_augment
from torch import Tensor
from torchvision.transforms import v2

from carlt.aug import CifarAutoAugment, Cutout, RandAugment, RandomErasing, TimmRandAugment, randaugment
from carlt.aug.operations import BICUBIC, BILINEAR, NEAREST, OPERATIONS, Operations
from carlt.errors import CarltError

TRANSFORMS = [RandAugment(), RandAugment(3, 30), CifarAutoAugment(), TimmRandAugment(), Cutout(), RandomErasing()]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 40, channels: int = 3, height: int = 16, width: int = 16) -> Tensor:
    return torch.randint(0, 256, (n, channels, height, width), dtype=torch.uint8, generator=generator(0))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda transform: type(transform).__name__)
def test_a_batch_is_its_images_one_by_one_with_the_same_draws(transform: object, channels: int) -> None:
    given, draws = images(channels=channels), generator(1)
    together = transform.batch(given, generator(1))
    assert torch.equal(together, torch.cat([transform.batch(image[None], draws) for image in given]))
    assert together.dtype == torch.uint8
    assert torch.equal(given, images(channels=channels))
    assert not torch.equal(together, given)


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda transform: type(transform).__name__)
def test_one_image_draws_from_the_global_generator(transform: object) -> None:
    (image,) = images(1)
    results = []
    for seed in (0, 0, *range(1, 30)):
        torch.manual_seed(seed)
        results.append(transform(image))
    assert torch.equal(results[0], results[1])
    assert len({result.numpy().tobytes() for result in results}) > 5


class Seen(list):
    """The operations of each round, which leave the images as they are."""

    def __call__(self, images: Tensor, operations: Operations, fill: tuple[int, ...] = (0, 0, 0)) -> Tensor:
        self.append((operations, fill))
        return images

    def rounds(self) -> list[Operations]:
        return [operations for operations, _ in self]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    seen = Seen()
    monkeypatch.setattr(randaugment, "apply", seen)
    return seen


def theirs(name: str, magnitude: int, bins: int, height: int, width: int) -> set[float]:
    """torchvision's levels in the units of ``OPERATIONS``."""
    levels, signed = v2.RandAugment._AUGMENTATION_SPACE.get(name, (lambda *_: None, False))
    levels = levels(bins, height, width)
    level = 0.0 if levels is None else float(levels[magnitude])
    both = {level, -level} if signed else {level}
    if name in ("Brightness", "Contrast", "Color", "Sharpness"):
        return {1 + value for value in both}
    if name.startswith("Translate"):
        return {float(int(value)) for value in both}
    return {255 * value for value in both} if name == "Solarize" else both


@pytest.mark.parametrize(("magnitude", "bins"), [(9, 31), (30, 31), (0, 31), (4, 10)])
def test_randaugment_is_torchvision_s(magnitude: int, bins: int, seen: Seen) -> None:
    draws = 14 * 400
    RandAugment(2, magnitude, bins).batch(images(draws, height=20, width=30), generator(0))
    assert len(seen) == 2
    for kind, level, taps in seen.rounds():
        assert {OPERATIONS[k] for k in kind.unique()} == set(v2.RandAugment._AUGMENTATION_SPACE)
        assert all(290 < count < 510 for count in kind.bincount() if count)
        assert (taps == NEAREST).all()
        for k in kind.unique().tolist():
            found = sorted(set(level[kind == k].tolist()))
            assert found == pytest.approx(sorted(theirs(OPERATIONS[k], magnitude, bins, 20, 30)), abs=1e-4), k
    first, second = (operations.kind for operations in seen.rounds())
    assert 0.04 < (first == second).double().mean() < 0.1  # drawn apart: 1 of 14


def test_autoaugment_is_torchvision_s(seen: Seen) -> None:
    policies = v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)._policies
    assert [[(*rest, i or 0) for *rest, i in pair] for pair in policies] == [list(p) for p in CifarAutoAugment.policy]
    draws = 40_000
    CifarAutoAugment().batch(torch.zeros(draws, 1, 20, 30, dtype=torch.uint8), generator(0))
    first, second = seen.rounds()
    for step, (kind, level, _) in enumerate((first, second)):
        for k, name in enumerate(OPERATIONS[1:], 1):
            rules = [pair[step] for pair in policies if pair[step][0] == name]
            share = sum(probability for _, probability, _ in rules) / 25
            error = (share * (1 - share) / draws) ** 0.5
            assert abs((kind == k).double().mean() - share) <= 5 * error
            levels = set().union(*(theirs(name, i or 0, 10, 20, 30) for _, p, i in rules if p))
            assert sorted(set(level[kind == k].tolist())) == pytest.approx(sorted(levels), abs=1e-4)
    # Both of a pair: (Brightness, 0.9), (Color, 0.2) and (Brightness, 0.1), (Color, 0.7).
    both = (first.kind == OPERATIONS.index("Brightness")) & (second.kind == OPERATIONS.index("Color"))
    assert abs(both.double().mean() - (0.9 * 0.2 + 0.1 * 0.7) / 25) < 0.0025


@pytest.mark.parametrize("kind", [RandAugment, TimmRandAugment])
def test_there_are_as_many_operations_as_asked(kind: type, seen: Seen) -> None:
    kind(num_ops=3).batch(images(8), generator(0))
    assert len(seen) == 3


@pytest.mark.parametrize("magnitude", [0, 4, 10])
def test_timm_s_form_has_timm_s_levels(magnitude: int, seen: Seen) -> None:
    transform = auto_augment.rand_augment_transform(f"rand-n2-m{magnitude}-mstd0.5", {"img_mean": (124, 116, 104)})
    TimmRandAugment(magnitude=magnitude, magnitude_std=0).batch(images(3000, height=20, width=30), generator(0))
    assert {op.prob for op in transform.ops} == {0.5}
    assert transform.num_layers == len(seen) == 2
    for (kind, level, taps), fill in seen:
        assert fill == transform.ops[0].kwargs["fillcolor"]
        assert 0.46 < (kind == 0).double().mean() < 0.54
        assert set(taps.tolist()) == {BILINEAR, BICUBIC}
        assert 0.46 < (taps == BICUBIC).double().mean() < 0.54
        for op in transform.ops:
            name = re.sub("Rel$", "", op.name)
            expected = op.level_fn(magnitude, op.hparams)[0] if op.level_fn else 0.0
            side = {"TranslateX": 30, "TranslateY": 20}.get(name, 1)
            found = level[kind == OPERATIONS.index(name)].abs().unique().tolist()
            assert found == pytest.approx([abs(expected) * side], abs=1e-5), name
    assert len(transform.ops) == 15


def test_timm_s_magnitude_is_normal_and_cut_at_its_ends(seen: Seen) -> None:
    TimmRandAugment(magnitude=5, magnitude_std=0.5).batch(images(20_000, height=1, width=1), generator(0))
    TimmRandAugment(magnitude=10, magnitude_std=0.5).batch(images(20_000, height=1, width=1), generator(0))
    rotate = OPERATIONS.index("Rotate")
    middle, _, top, _ = (level[kind == rotate].abs() / 3 for kind, level, _ in seen.rounds())
    assert abs(middle.mean() - 5) < 0.1
    assert abs(middle.std() - 0.5) < 0.06
    assert 0.4 < (top == 10).double().mean() < 0.6
    assert top.max() == 10


def test_a_quarter_keeps_its_pixels_in_timm_s_form() -> None:
    given = images(400)
    same = (TimmRandAugment().batch(given, generator(0)) == given).flatten(1).all(1).double().mean()
    assert 0.2 < same < 0.4


@pytest.mark.parametrize("options", [{"num_ops": 0}, {"magnitude": 11}, {"magnitude_std": -1.0}])
def test_mistakes(options: dict) -> None:
    (name,) = options
    with pytest.raises(CarltError, match=f"^{name}="):
        TimmRandAugment(**options)


def test_a_magnitude_beyond_the_bins() -> None:
    with pytest.raises(CarltError, match=r"^magnitude=31 .*num_magnitude_bins=31"):
        RandAugment(magnitude=31)
