"""RandAugment, as torchvision and timm have it, and AutoAugment, on whole batches."""

from typing import Annotated

import torch
from torch import Tensor

from carlt.aug.batch import BatchTransform, uniform
from carlt.aug.operations import BICUBIC, BILINEAR, NEAREST, OPERATIONS, Operations, apply, kinds
from carlt.errors import CarltError
from carlt.ranges import Count, CountOrZero, NonNegative, Range, checked


class RandAugment(BatchTransform):
    """``num_ops`` of 14 operations, each image with its own (Cubuk et al., NeurIPS 2020), as torchvision has it.

    Half of the shears, translations, rotations and changes of colour go the other way.

    Args:
        num_ops: operations per image, at least 1.
        magnitude: of all operations, in [0, ``num_magnitude_bins``).
        num_magnitude_bins: at the last one images are turned by 30 degrees and shifted by 45 % of their side.
    """

    kinds = kinds(*(name for name in OPERATIONS if name not in ("SolarizeAdd", "Invert")))

    @checked
    def __init__(self, num_ops: Count = 2, magnitude: CountOrZero = 9, num_magnitude_bins: Count = 31):
        if magnitude >= num_magnitude_bins:
            raise CarltError(
                f"magnitude={magnitude} is out of range: it is below num_magnitude_bins={num_magnitude_bins}"
            )
        self.num_ops, self.share = num_ops, magnitude / max(num_magnitude_bins - 1, 1)

    def batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        for kind, sign in uniform(images, 2 * self.num_ops, generator).split(2):
            which = self.kinds[(kind * len(self.kinds)).long()]
            images = apply(images, _operations(which, torch.full_like(sign, self.share), sign < 0.5, images))
        return images


class CifarAutoAugment(BatchTransform):
    """AutoAugment with the policy found for CIFAR-10: one of 25 pairs of operations (Cubuk et al., CVPR 2019, table 7).

    As in torchvision, half of the shears, translations, rotations and changes of colour go the other way.
    """

    policy = (
        (("Invert", 0.1, 0), ("Contrast", 0.2, 6)),
        (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
        (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
        (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
        (("AutoContrast", 0.5, 0), ("Equalize", 0.9, 0)),
        (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
        (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
        (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
        (("Equalize", 0.6, 0), ("Equalize", 0.5, 0)),
        (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
        (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
        (("Equalize", 0.3, 0), ("AutoContrast", 0.4, 0)),
        (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
        (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
        (("Solarize", 0.5, 2), ("Invert", 0.0, 0)),
        (("Equalize", 0.2, 0), ("AutoContrast", 0.6, 0)),
        (("Equalize", 0.2, 0), ("Equalize", 0.6, 0)),
        (("Color", 0.9, 9), ("Equalize", 0.6, 0)),
        (("AutoContrast", 0.8, 0), ("Solarize", 0.2, 8)),
        (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
        (("Solarize", 0.4, 5), ("AutoContrast", 0.9, 0)),
        (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
        (("AutoContrast", 0.9, 0), ("Solarize", 0.8, 3)),
        (("Equalize", 0.8, 0), ("Invert", 0.1, 0)),
        (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, 0)),
    )
    """Pairs of (operation, probability, magnitude of 9)."""

    def batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        pair, *draws = uniform(images, 5, generator)
        pair = (pair * len(self.policy)).long()
        for step, (whether, sign) in enumerate((draws[:2], draws[2:])):
            names, probability, magnitude = zip(*(operations[step] for operations in self.policy), strict=True)
            which = kinds(*names)[pair].where(whether < torch.tensor(probability)[pair], 0)
            images = apply(images, _operations(which, torch.tensor(magnitude)[pair] / 9, sign < 0.5, images))
        return images


class TimmRandAugment(BatchTransform):
    """timm's RandAugment: ``num_ops`` of 15 operations, each with probability 1/2.

    The magnitude of a change is normally distributed around ``magnitude`` of 10. At 10 images are turned by up to 30
    degrees and shifted by up to 45 % of their side; new borders have ImageNet's mean colour. BCL's and ConCutMix's
    recipes for ImageNet-LT and iNaturalist have the defaults. torchvision's RandAugment is weaker at its own defaults:
    9 degrees, and it always applies its changes (Cubuk et al., NeurIPS 2020).

    Args:
        num_ops: changes per image, at least 1.
        magnitude: in [0, 10].
        magnitude_std: standard deviation of the magnitude, at least 0.
    """

    kinds = kinds(*OPERATIONS[1:])
    fill = (124, 116, 104)

    @checked
    def __init__(
        self, num_ops: Count = 2, magnitude: Annotated[int, Range(0, 10)] = 10, magnitude_std: NonNegative = 0.5
    ):
        self.num_ops, self.magnitude, self.magnitude_std = num_ops, magnitude, magnitude_std

    def batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        for draws in uniform(images, 5 * self.num_ops, generator).split(5):
            images = apply(images, self.operations(draws, images), self.fill)
        return images

    def operations(self, draws: Tensor, images: Tensor) -> Operations:
        """The operations of one round, from uniform draws (5, N)."""
        kind, whether, magnitude, sign, smooth = draws
        which = self.kinds[(kind * len(self.kinds)).long()].where(whether < 0.5, 0)
        normal = torch.special.ndtri(magnitude.double().clamp_min(2**-25))
        share = (self.magnitude + self.magnitude_std * normal).clamp(0, 10) / 10
        height, width = images.shape[2:]
        signed = torch.where(sign < 0.5, -share, share)
        factor = 0.1 + 1.8 * share
        level = _choose(
            which, Brightness=factor, Contrast=factor, Color=factor, Sharpness=factor, Posterize=(4 * share).floor(),
            Solarize=(256 * share).floor(), SolarizeAdd=(110 * share).floor(), ShearX=0.3 * signed,
            ShearY=0.3 * signed, TranslateX=0.45 * width * signed, TranslateY=0.45 * height * signed,
            Rotate=30 * signed,
        )  # fmt: skip
        return Operations(which, level, torch.where(smooth < 0.5, BILINEAR, BICUBIC))


def _operations(which: Tensor, share: Tensor, negative: Tensor, images: Tensor) -> Operations:
    """torchvision's levels at ``share`` of the whole range, in [0, 1]."""
    height, width = images.shape[2:]
    signed = torch.where(negative, -share, share).double()
    factor, longest = 1 + 0.9 * signed, 150 / 331
    level = _choose(
        which, Brightness=factor, Contrast=factor, Color=factor, Sharpness=factor,
        Posterize=(8 - 4 * share.double()).round(), Solarize=255 * (1 - share.double()), ShearX=0.3 * signed,
        ShearY=0.3 * signed, TranslateX=(longest * width * signed).trunc(),
        TranslateY=(longest * height * signed).trunc(), Rotate=30 * signed,
    )  # fmt: skip
    return Operations(which, level, torch.full_like(which, NEAREST))


def _choose(which: Tensor, **levels: Tensor) -> Tensor:
    """Each image's level of its operation, float32."""
    chosen = torch.zeros(len(which), dtype=torch.float64)
    for name, level in levels.items():
        chosen = torch.where(which == OPERATIONS.index(name), level, chosen)
    return chosen.float()
