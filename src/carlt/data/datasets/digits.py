"""scikit-learn's bundled handwritten digits, made long-tailed: real images that need no download."""

from typing import Any, Literal

import torch

from carlt.data.images import ArrayImages, Split, Splits
from carlt.data.module import LongTailDataModule
from carlt.data.subsets import class_sizes, hold_out, indices_by_class
from carlt.errors import CarltError
from carlt.ranges import AtLeastOne, Count, CountOrZero, Seed, checked

SMALLEST_CLASS = 174  # of the 1,797 images


class DigitsLT(LongTailDataModule):
    """1,797 grey 8 x 8 digits of 10 classes: 50 test and 20 validation images per class, the rest thinned to a tail.

    Args:
        imbalance_factor: largest class over smallest, at least 1.
        profile: shape of the tail (``carlt.functional.profile``).
        largest_class: training images of class 0.
        subset_seed: decides the split and the subset; not the run's seed, so that runs share their test set.
    """

    name = "digits_lt"
    channels = 1
    mean, std = (0.305,), (0.376,)

    @checked
    def __init__(
        self,
        *,
        imbalance_factor: AtLeastOne = 40,
        profile: Literal["exponential", "step"] = "exponential",
        largest_class: Count = 104,
        test_per_class: Count = 50,
        val_per_class: CountOrZero = 20,
        subset_seed: Seed = 0,
        **loading: Any,
    ):
        super().__init__(**loading)
        if largest_class + test_per_class + val_per_class > SMALLEST_CLASS:
            raise CarltError(
                f"digits_lt has {SMALLEST_CLASS} images in its smallest class: data.largest_class ({largest_class}) + "
                f"data.test_per_class ({test_per_class}) + data.val_per_class ({val_per_class}) is more: lower one"
            )
        self.counts = class_sizes(profile, largest_class, 10, imbalance_factor)
        self.test_per_class, self.val_per_class, self.subset_seed = test_per_class, val_per_class, subset_seed

    def load(self) -> Splits:
        from sklearn.datasets import load_digits  # imported here, because scikit-learn takes a second to import

        digits = load_digits()
        pixels = torch.from_numpy(digits.images).mul(255 / 16).round().to(torch.uint8).unsqueeze(1)
        everything = Split(ArrayImages(pixels), torch.from_numpy(digits.target).long())
        generator = torch.Generator().manual_seed(self.subset_seed)
        shuffled = [
            indices[torch.randperm(len(indices), generator=generator)]
            for indices in indices_by_class(everything.targets, 10)
        ]
        test = torch.cat([indices[: self.test_per_class] for indices in shuffled])
        rest = [indices[self.test_per_class :] for indices in shuffled]
        train = torch.cat([indices[:n] for indices, n in zip(rest, self.counts, strict=True)])
        val = hold_out([indices[n:] for indices, n in zip(rest, self.counts, strict=True)], self.val_per_class)
        return Splits(
            train=everything.subset(train),
            val=everything.subset(val) if self.val_per_class else None,
            test=everything.subset(test),
            class_names=[f"digit {label}" for label in range(10)],
        )
