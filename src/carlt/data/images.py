"""The images of a split: arrays in memory, or files that are decoded on demand."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from carlt.data.io.decode import decode
from carlt.errors import CarltError
from carlt.runs.text import counted

OnError = Literal["raise", "skip"]
MAX_NAMED = 5
"""Classes without test images that a message names at most."""


class ArrayImages:
    """Images of one size, uint8 (N, C, H, W), held once and indexed as whole batches.

    Raises:
        CarltError: other numbers, such as floats, or another number of dimensions.
    """

    def __init__(self, pixels: Tensor):
        if pixels.dtype != torch.uint8 or pixels.ndim != 4:
            raise CarltError(
                f"images are {pixels.dtype} {tuple(pixels.shape)}: give torch.uint8 (N, C, H, W) from 0 to 255, which "
                "is normalised later"
            )
        self.pixels = pixels
        self._copies: dict[torch.device, Tensor] = {}

    def __len__(self) -> int:
        return len(self.pixels)

    def on(self, device: torch.device) -> Tensor:
        """The pixels on ``device``, where all loaders of a split use the same copy."""
        if device not in self._copies:
            self._copies[device] = self.pixels.to(device)
        return self._copies[device]

    def subset(self, indices: Tensor) -> "ArrayImages":
        return ArrayImages(self.pixels[indices])


class FileImages:
    """Image files below ``root``.

    Paths are one compact byte array, because forked workers share it; a list of str would be copied page by page.
    ``on_error``: loaders stop at a file that cannot be decoded (``raise``), or log it and leave it out (``skip``).
    """

    def __init__(self, root: Path, paths: Sequence[str] | np.ndarray, on_error: OnError = "raise"):
        self.root, self.on_error = root, on_error
        self.paths = (
            paths if isinstance(paths, np.ndarray) else np.array([os.fsencode(p) for p in paths], dtype=np.bytes_)
        )

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, index: int) -> Path:
        return self.root / os.fsdecode(self.paths[index])

    def load(self, index: int) -> Tensor:
        """One file as upright RGB, uint8 (3, H, W); CarltError names it if it is missing or no image."""
        return decode(self.path(index))

    def subset(self, indices: Tensor) -> "FileImages":
        return FileImages(self.root, self.paths[indices.numpy()], self.on_error)


Images = ArrayImages | FileImages


@dataclass(frozen=True)
class Split:
    """Images with their class, ``targets`` int64 (N,).

    Raises:
        CarltError: labels of another kind, or not as many as images.
    """

    images: Images
    targets: Tensor

    def __post_init__(self) -> None:
        if self.targets.dtype != torch.int64 or self.targets.shape != (len(self.images),):
            raise CarltError(
                f"labels are {self.targets.dtype} {tuple(self.targets.shape)}: {len(self.images)} images need "
                f"torch.int64 ({len(self.images)},)"
            )

    def __len__(self) -> int:
        return len(self.targets)

    def subset(self, indices: Tensor) -> "Split":
        return Split(self.images.subset(indices), self.targets[indices])


@dataclass(frozen=True)
class Splits:
    """The splits of a data set: long-tailed training, test and, if there is one, validation.

    Raises:
        CarltError: a label that is no index of ``class_names``.
    """

    train: Split
    val: Split | None
    test: Split
    class_names: list[str]

    def __post_init__(self) -> None:
        for name, split in self.named().items():
            if len(split) and not 0 <= (low := int(split.targets.min())) <= split.targets.max() < self.num_classes:
                raise CarltError(
                    f"labels of {name} are from {low} to {int(split.targets.max())}: with {self.num_classes} class "
                    f"names they are from 0 to {self.num_classes - 1}"
                )

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def class_counts(self) -> Tensor:
        """Training images of each class, int64 (C,)."""
        return torch.bincount(self.train.targets, minlength=self.num_classes)

    def named(self) -> dict[str, Split]:
        """The splits that there are, by name, in the order train, val, test."""
        found = {"train": self.train, "val": self.val, "test": self.test}
        return {name: split for name, split in found.items() if split is not None}

    def untested(self) -> str:
        """A sentence on the classes without test images, the most frequent first; empty if every class has some."""
        counts = self.class_counts
        tested = torch.bincount(self.test.targets, minlength=self.num_classes) > 0
        missing = [int(c) for c in counts.argsort(descending=True, stable=True) if not tested[c]]
        if not missing:
            return ""
        names = ", ".join(
            f"{self.class_names[c]} ({counted(int(counts[c]), 'training image')})" for c in missing[:MAX_NAMED]
        )
        more = f" and {len(missing) - MAX_NAMED:,} more" if len(missing) > MAX_NAMED else ""
        classes = "1 class has" if len(missing) == 1 else f"{len(missing):,} classes have"
        return f"{classes} no test images, so that no test result is about them: {names}{more}"
