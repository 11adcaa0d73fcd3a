"""Sets of large images whose splits are list files: the base of ImageNet-LT, Places-LT and iNaturalist 2018."""

import os
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from carlt.data.facts import Facts, check_digest
from carlt.data.images import FileImages, Split, Splits
from carlt.data.io.download import Download
from carlt.data.io.lists import Records, read_list
from carlt.data.io.verify import Verify, usable
from carlt.data.module import LongTailDataModule, require
from carlt.data.subsets import Profile, Rule, thin
from carlt.errors import CarltError, results
from carlt.ranges import AtLeastOne, Count, Seed, checked

# The lists that the field uses, at a fixed commit.
COMMIT = "22370c64141cc662f62ead89447c838c4a7977b5"
LISTS = f"https://raw.githubusercontent.com/facebookresearch/classifier-balancing/{COMMIT}/data"

SplitName = Literal["train", "val", "test"]


class ListedLT(LongTailDataModule):
    """Reads ``lists/<file>`` for each split and finds the images below ``root`` in any of the usual layouts.

    Args:
        root: folder with the images.
        lists: folder with the list files; by default ``root/lists``.
        verify: the check before training: of ``lists`` only, that ``files`` exist, or that they decode (``full``,
            minutes: ``python -m carlt.prepare data=<set> verify=full`` does it once).
        on_error: whether a bad line, a missing or an undecodable image is an error, or counted, logged and left out.
        official: whether lists and counts must be the published ones.
        imbalance_factor: thin the training list to this factor, largest class over smallest; by default it is as it is.
        profile, subset, largest_class: how (``carlt.data.subsets.thin``).

    A data set names its ``files``, ``facts`` and accepted ``sha256`` by split, its ``classes``, and its ``layouts``:
    (pattern, replacement) pairs that turn a canonical path into one of a layout.
    """

    classes: ClassVar[int]
    files: ClassVar[dict[SplitName, str]]
    facts: ClassVar[dict[SplitName, Facts]]
    sha256: ClassVar[dict[SplitName, tuple[str, ...]]]
    layouts: ClassVar[dict[SplitName, list[tuple[str, str]]]]
    layout_help: ClassVar[str]
    lists_folder: ClassVar[str]

    @checked
    def __init__(
        self,
        *,
        root: str | Path,
        lists: str | Path | None = None,
        verify: Verify = "files",
        official: bool = True,
        imbalance_factor: AtLeastOne | None = None,
        profile: Profile = "exponential",
        subset: Rule | Seed = "ldam",
        largest_class: Count | None = None,
        **loading: Any,
    ):
        super().__init__(**loading)
        self.imbalance_factor, self.profile, self.subset = imbalance_factor, profile, subset
        self.largest_class = largest_class
        self.root, self.lists = Path(root), Path(lists) if lists else Path(root) / "lists"
        self.official = official
        self.set_verify(verify)

    def downloads(self) -> list[Download]:
        """The lists; the images must be requested from their owners."""
        return [
            Download(f"{LISTS}/{self.lists_folder}/{file}", self.lists / file, self.sha256.get(split, ()))
            for split, file in self.files.items()
        ]

    def load(self) -> Splits:
        records = {split: self.records(split) for split in self.files}
        records["train"] = self.canonical("train", records["train"], [])
        folders = class_folders(records["train"], self.classes)
        for split in records:
            if split != "train":
                records[split] = self.canonical(split, records[split], folders)
        records["train"] = self._thinned(records["train"])
        splits = dict(zip(records, results(partial(self._split, *each) for each in records.items()), strict=True))
        return Splits(splits["train"], splits.get("val"), splits["test"], self.names(folders))

    def records(self, split: SplitName) -> Records:
        """The records of a split as its list gives them, checked against the official facts."""
        path = self.lists / self.files[split]
        prepare = self.prepare_command(root=self.root, lists=self.lists)
        remedy = f"run `{prepare}`, or point data.lists at the folder that holds it"
        require(path, f"{self.name}'s list", remedy)
        if self.official and split in self.sha256:
            check_digest(path, self.sha256[split])
        records = read_list(path, self.classes, self.on_error)
        self.check(split, records)
        return records

    def check(self, split: SplitName, records: Records) -> None:
        """CarltError unless the counts of ``records`` are the official ones."""
        if self.official:
            counts = torch.from_numpy(np.bincount(records.labels, minlength=self.classes))
            self.facts[split].check(counts, records.source)

    def canonical(self, split: SplitName, records: Records, folders: list[str]) -> Records:
        """``records`` with this project's path prefix, for every variant of the list.

        ``folders`` are those of the training classes; it is empty for the training split itself, which is read first.
        """
        return records

    def names(self, folders: list[str]) -> list[str]:
        """Class names, given the folder of each class's training images."""
        return [folder.rpartition("/")[2] for folder in folders]

    def _thinned(self, train: Records) -> Records:
        if self.imbalance_factor is None:
            return train
        kept = thin(
            torch.from_numpy(train.labels),
            self.classes,
            imbalance_factor=self.imbalance_factor,
            profile=self.profile,
            largest=self.largest_class,
            rule=self.subset,
        )
        return train[kept.numpy()]

    def _split(self, split: SplitName, records: Records) -> Split:
        """``records`` in the layout that is on disk, verified; with ``verify=lists`` the images may be elsewhere."""
        try:
            records = records.rewritten(*self._layout(split, records[:3]))
        except CarltError:
            if self.verify != "lists":
                raise
        images = FileImages(self.root, records.paths, self.on_error)
        found = Split(images, torch.from_numpy(records.labels))
        if self.verify == "lists":
            return found
        place = lambda index: f"{records.source}, line {records.lines[index]}"  # noqa: E731
        good = usable(images, self.verify, self.num_workers, place)
        return found if len(good) == len(found) else found.subset(good)

    def _layout(self, split: SplitName, sample: Records) -> tuple[str, str]:
        """The layout in which any image of ``sample`` is there."""
        tried = []
        for layout in self.layouts[split]:
            paths = [self.root / os.fsdecode(path) for path in sample.rewritten(*layout).paths]
            if any(path.exists() for path in paths):
                return layout
            tried.append(str(paths[0]))
        raise CarltError(
            f"{self.name}'s {split} images not found below {self.root.absolute()}; looked for "
            f"{', '.join(dict.fromkeys(tried))}. {self.layout_help} Or point data.root at them"
        )


def class_folders(train: Records, classes: int) -> list[str]:
    """The folder of each class's first training image, ``class <label>`` for none; CarltError if two share one."""
    labels, first = np.unique(train.labels, return_index=True)
    folders = [f"class {label}" for label in range(classes)]
    label_of: dict[str, int] = {}
    for label, path in zip(labels.tolist(), train.paths[first].tolist(), strict=True):
        folder = folders[label] = os.fsdecode(path.rpartition(b"/")[0])
        if label_of.setdefault(folder, label) != label:
            raise CarltError(
                f"classes {label_of[folder]} and {label} of {train.source} have one folder, {folder}; "
                "each class has a folder of its own"
            )
    return folders
