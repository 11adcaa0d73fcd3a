"""Image folders: one folder per class."""

import os
import unicodedata
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from carlt.data.datasets.in_memory import decode_all, scaled_side
from carlt.data.images import FileImages, Split, Splits
from carlt.data.io.decode import EXTENSIONS
from carlt.data.io.verify import Verify, usable
from carlt.data.io.walk import class_folders, image_files, not_read, walk
from carlt.data.module import LongTailDataModule, require
from carlt.data.subsets import Profile, Rule, make_long_tailed, rank_images
from carlt.errors import CarltError, results
from carlt.ranges import AtLeastOne, Count, CountOrZero, Range, Seed, ShareBelowOne, checked
from carlt.runs.text import counted, get_logger

SPLITS = {"training": "train", "valid": "val", "validation": "val", "testing": "test", "train": "train", "val": "val",
          "test": "test"}  # fmt: skip
"""Names of folders, and the split that each looks like."""
log = get_logger(__name__)


class ImageFolder(LongTailDataModule):
    """``root/train/<class>/*`` with ``root/test/`` and perhaps ``root/val/``, or ``root/<class>/*`` split by ratio.

    Classes are the sub-folders of the training folder in alphabetical order, images all files below them with a usual
    extension. A split without a folder is taken from the training images: each class gives ``test_ratio`` of them to
    the test and ``val_ratio`` to the validation split, rounded, but at least one image to the test split, and always
    keeps one to train on: a class of two images has one of each. If only ``val/`` is beside ``train/``, it is the test
    split.

    Args:
        test_root: a folder with the test images as ``<class>/*``, which may lack classes, instead of ``root/test/``.
        class_depth: levels of folders that name a class. With 2, ``root/<alphabet>/<character>/*`` has a class for each
            character, called ``alphabet/character``.
        imbalance_factor: thin the training images to a long tail of this factor; by default they are used as they are.
        profile, subset, largest_class: how, see CIFAR-LT; ``largest_class`` is by default the size of the smallest.
        test_ratio, val_ratio: shares of each class that become the test and validation splits where those folders are
            missing; ``val_ratio=0`` trains on all images and validates on none.
        val_per_class: images of each class that become the validation split, instead of ``val_ratio``.
        split_seed: decides which images these are.
        in_memory: decode once to squares of the size that ``eval_view`` scales to, and hold them, for sets of small
            images.
        verify: see ``datasets.listed``; the files were just listed, so ``files`` finds nothing more than ``lists``.
        on_error: whether an empty class or an undecodable image is an error, or logged and left out.
    """

    name = "image_folder"

    @checked
    def __init__(
        self,
        *,
        root: str | Path = "data/images",
        test_root: str | Path | None = None,
        class_depth: Count = 1,
        imbalance_factor: AtLeastOne | None = None,
        profile: Profile = "exponential",
        subset: Rule | Seed = "ldam",
        largest_class: Count | None = None,
        test_ratio: Annotated[float, Range(0, 1, "both")] = 0.2,
        val_ratio: ShareBelowOne = 0.1,
        val_per_class: CountOrZero | None = None,
        split_seed: Seed = 0,
        in_memory: bool = False,
        verify: Verify = "files",
        **loading: Any,
    ):
        super().__init__(**loading)
        if test_ratio + val_ratio >= 1:
            raise CarltError(
                f"data.test_ratio ({test_ratio}) and data.val_ratio ({val_ratio}) must leave images to train on"
            )
        self.root, self.class_depth, self.in_memory = Path(root), class_depth, in_memory
        self.test_root = None if test_root is None else Path(test_root)
        self.set_verify(verify)
        self.imbalance_factor, self.profile, self.subset, self.largest_class = (
            imbalance_factor,
            profile,
            subset,
            largest_class,
        )
        self.test_ratio, self.val_ratio, self.val_per_class = test_ratio, val_ratio, val_per_class
        self.split_seed = split_seed

    def load(self) -> Splits:
        splits = self.listed
        named = splits.named()
        found = dict(zip(named, results(partial(self._ready, each) for each in named.values()), strict=True))
        ready = Splits(found["train"], found.get("val"), found["test"], splits.class_names)
        if len(lost := (ready.class_counts == 0).nonzero()):
            raise CarltError(
                f"class {splits.class_names[int(lost[0])]!r} in {self.root} has no training image that decodes "
                f"({len(lost)} such); replace its images, or remove its folder"
            )
        return ready

    @cached_property
    def listed(self) -> Splits:
        """The splits as files, none of them opened."""
        remedy = "point it at a folder with train/<class>/ or <class>/ in it"
        if not require(self.root, "data.root", remedy).is_dir():
            raise CarltError(f"data.root={self.root} is a file: {remedy}")
        self._check_split_names()
        base = self.root / "train" if (self.root / "train").is_dir() else self.root
        classes = self._classes(base)
        train = self._split(self.root, "train" if base != self.root else "", classes, of_training=True)
        assert train is not None  # every class has an image
        val = self._split(self.root, "val", classes)
        test = self._split(*self._test_folder(), classes)
        if test is None and val is not None:
            log.warning("%s has val/ but no test/: val/ is the test split", self.root)
            val, test = None, val
        if val is not None and self.val_per_class is not None:
            raise CarltError(
                f"data.val_per_class={self.val_per_class}, but {self.root / 'val'} holds the validation images already"
            )
        if val is None:
            train, val, test = self._take_from(train, len(classes), test)
        assert test is not None
        if self.imbalance_factor is not None:
            kept, _ = make_long_tailed(
                train.targets,
                len(classes),
                profile=self.profile,
                imbalance_factor=self.imbalance_factor,
                largest=self.largest_class,
                rule=self.subset,
            )
            train = train.subset(kept)
        return Splits(train, val, test, classes)

    def _check_split_names(self) -> None:
        """CarltError if folders look like splits and are not named so; one such name alone may be a class's."""
        looks = {entry.name: SPLITS.get(entry.name.casefold()) for entry in self.root.iterdir() if entry.is_dir()}
        meant = {name: split for name, split in looks.items() if split}
        if "train" in meant.values() and len(set(meant.values())) > 1:
            for name, split in sorted(meant.items()):
                if name != split:
                    raise CarltError(f"{self.root / name} looks like a split; rename it to {split}")

    def _test_folder(self) -> tuple[Path, str]:
        """The folder that paths of test images begin at, and the part of it that holds their class folders."""
        if self.test_root is None:
            return self.root, "test"
        require(self.test_root, "data.test_root", "point it at a folder with one folder per class")
        if not class_folders(self.test_root, self.class_depth)[0]:
            raise CarltError(f"data.test_root={self.test_root} has no class folders; images belong in <class>/ there")
        return self.test_root, ""

    def _classes(self, base: Path) -> list[str]:
        """The class folders of ``base``, sorted; CarltError if there are none or two that read the same."""
        found, strays = class_folders(base, self.class_depth)
        if base == self.root and (split := sorted({"val", "test"} & {name.partition("/")[0] for name in found})):
            raise CarltError(f"{self.root} has {split[0]}/ but no train/; put the training images in train/<class>/")
        if strays:
            count = counted(len(strays), "image")
            log.warning("left out %s in no class folder, the first: %s", count, base / strays[0])
        if not found:
            place = "/".join(["<class>"] * self.class_depth)
            raise CarltError(f"{base} has no class folders; images belong in {base}/{place}/")
        if len(found) == self.class_depth == 1 and len(inner := class_folders(base / found[0], 1)[0]) > 1:
            within = base / found[0]
            raise CarltError(
                f"{base} has one folder, {found[0]}, and that has {len(inner)}: for a class of each of them give "
                f"data.root={within}"
            )
        _by_form(found, _folded, base)
        empty = [name for name in found if next(image_files(base / name), None) is None]
        if empty and self.on_error == "raise":
            others = not_read(name for _, names in walk(base / empty[0]) for name in names)
            holds = f"has {others}; convert them to JPEG or PNG" if others else "has no image"
            raise CarltError(
                f"class folder {base / empty[0]} {holds} ({len(empty)} such folders); fill or remove it, or leave such "
                f"classes out with data.on_error=skip. Images end in {' '.join(sorted(EXTENSIONS))}"
            )
        if empty:
            count = counted(len(empty), "class", "classes")
            log.warning("left out %s without images, the first: %s", count, base / empty[0])
        return [name for name in found if name not in set(empty)]

    def _split(self, root: Path, part: str, classes: list[str], of_training: bool = False) -> Split | None:
        """All images of ``root/part/<class>/``, if that folder exists; CarltError if it has none.

        ``of_training``: ``classes`` are those of this split, which said so where it left out folders.
        """
        base = root / part
        if not base.is_dir():
            return None
        # A disk of a Mac may give the same name in another Unicode form.
        there = _by_form(class_folders(base, self.class_depth)[0], _composed, base)
        unknown = [] if of_training else sorted(set(there.values()) - {there.get(_composed(name)) for name in classes})
        if unknown and self.on_error == "raise":
            raise CarltError(
                f"{base / unknown[0]} is no class of the training images ({len(unknown)} such folders); "
                "add training images of it, remove it, or leave it out with data.on_error=skip"
            )
        if unknown:
            count = counted(len(unknown), "folder")
            log.warning("left out %s of classes without training images, the first: %s", count, base / unknown[0])
        folders = [there.get(_composed(name)) for name in classes]
        names = [sorted(image_files(base / folder)) if folder else [] for folder in folders]
        targets = torch.arange(len(classes)).repeat_interleave(torch.tensor([len(files) for files in names]))
        paths = [os.path.relpath(file, root) for files in names for file in files]
        if not paths:  # other images in place of these would be a surprise
            raise CarltError(
                f"{base} has no image in a class folder; add some, or remove it. Images end in "
                f"{' '.join(sorted(EXTENSIONS))}"
            )
        return Split(FileImages(root, paths, self.on_error), targets)

    def _take_from(self, everything: Split, num_classes: int, test: Split | None) -> tuple[Split, Split | None, Split]:
        """Training, validation and test split; those that have no folder, from the same shares of every class."""
        parts: list[list[Tensor]] = [[], [], []]
        for order in rank_images(everything.targets, num_classes, self.split_seed):
            n = len(order)
            for_test = min(max(1, round(n * self.test_ratio)), n - 1) if test is None else 0
            wanted = round(n * self.val_ratio) if self.val_per_class is None else self.val_per_class
            for_val = min(wanted, n - 1 - for_test)
            for part, indices in zip(parts, order.split([n - for_test - for_val, for_val, for_test]), strict=True):
                part.append(indices)
        train, val, taken = (everything.subset(torch.cat(part).sort().values) for part in parts)
        if test is None and not len(taken):
            raise CarltError(f"{self.root} has one image per class and none to spare for testing; add test/<class>/")
        return train, val if len(val) else None, taken if test is None else test

    def _ready(self, split: Split) -> Split:
        """Verified, and decoded if it is to be held in memory."""
        if self.in_memory:
            return decode_all(split, scaled_side(self.eval_view, self.image_size), self.num_workers)
        if self.verify != "full":
            return split
        assert isinstance(split.images, FileImages)
        return split.subset(usable(split.images, self.verify, self.num_workers))


def _by_form(names: Sequence[str], form: Callable[[str], str], base: Path) -> dict[str, str]:
    """The class folders of ``base`` by their ``form``; CarltError if two have the same."""
    found: dict[str, str] = {}
    for name in names:
        other = found.setdefault(form(name), name)
        if other != name:
            raise CarltError(
                f"classes {other!r} and {name!r} in {base} differ only in case, spaces or Unicode form; rename one"
            )
    return found


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    """``name`` without what tells names apart on some disks only."""
    return " ".join(_composed(name).split()).casefold()
