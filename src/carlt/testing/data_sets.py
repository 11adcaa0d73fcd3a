"""What every data set promises."""

from typing import Any

import torch

from carlt.aug import Resize
from carlt.data import LongTailDataModule
from carlt.data.images import FileImages, Split
from carlt.testing.part import Check, Part, require, run


def check_data(data: Any, /, *, image_size: int = 32, **options: Any) -> None:
    """Check a data set: a subclass of ``carlt.data.LongTailDataModule``. It is read as a run reads it.

    Args:
        data: the class.
        image_size: side of the network's input, in pixels.
        options: values for its constructor, e.g. ``root``.

    Raises:
        AssertionError: names the first promise that it breaks.
    """
    run(CHECKS, Part(data, options | {"image_size": image_size}))


def build(part: Part) -> LongTailDataModule:
    """The data set with plain views and without worker processes."""
    size = part.options.get("image_size", 32)
    values: dict[str, Any] = {"batch_size": 8, "num_workers": 0, **part.options}
    return part.kind(view=Resize(size), eval_view=Resize(size), **values)


def splits_are_what_a_run_needs(part: Part) -> None:
    """Every class has a training image, labels are those of ``class_names``, and images and labels are as many."""
    data = build(part)
    splits = data.splits
    require(data.name and len(data.mean) == len(data.std) == data.channels, "name, mean, std or channels is missing")
    for name, split in splits.named().items():
        require(len(split.images) == len(split.targets), f"{name} has {len(split.images)} images")
        require(split.targets.dtype == torch.int64, f"the labels of {name} are {split.targets.dtype}")
        inside = (split.targets >= 0) & (split.targets < splits.num_classes)
        require(inside.all(), f"a label of {name} is not below {splits.num_classes}")
    empty = (splits.class_counts == 0).nonzero().flatten().tolist()
    require(not empty, f"class {empty} has no training image")
    require(len(set(splits.class_names)) == splits.num_classes, "two classes have the same name")


def it_is_read_the_same_twice(part: Part) -> None:
    """A second reading gives the same images in the same order, so that runs share their test set."""
    require(build(part).checksum() == build(part).checksum(), "the checksums differ")


def no_test_image_is_trained_on(part: Part) -> None:
    """Training, validation and test images are different images."""
    seen: dict[bytes, str] = {}
    for name, split in build(part).splits.named().items():
        for key in _keys(split):
            require(seen.setdefault(key, name) == name, f"an image of {name} is in {seen[key]} too")


def batches_are_bytes(part: Part) -> None:
    """Batches are uint8 (N, channels, S, S) with int64 labels, in training and evaluation."""
    data = build(part)
    shape = (data.channels, data.image_size, data.image_size)
    images, labels = next(iter(data.train_dataloader()))[:2]
    require((images.dtype, images.shape[1:]) == (torch.uint8, shape), f"training: {images.dtype}, {images.shape}")
    require(labels.dtype == torch.int64 and len(labels) == len(images), "training: labels")
    images, labels = next(iter(data.test_dataloader()))[:2]
    require((images.dtype, images.shape[1:]) == (torch.uint8, shape), f"test: {images.dtype}, {images.shape}")
    data.close()


def _keys(split: Split) -> list[bytes]:
    """A key for each image: its path, or its pixels and label."""
    if isinstance(split.images, FileImages):
        return [bytes(path) for path in split.images.paths]
    pixels = split.images.pixels.flatten(1).numpy()
    return [row.tobytes() for row in pixels]


CHECKS: tuple[Check, ...] = (
    splits_are_what_a_run_needs,
    it_is_read_the_same_twice,
    no_test_image_is_trained_on,
    batches_are_bytes,
)
