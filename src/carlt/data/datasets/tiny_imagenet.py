"""Tiny-ImageNet-LT: exponential or step subsets of Tiny-ImageNet-200, held in memory as uint8."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from carlt.data.datasets.in_memory import decode_all
from carlt.data.facts import Facts
from carlt.data.images import FileImages, Split, Splits
from carlt.data.io.download import Download
from carlt.data.module import LongTailDataModule, read_required, require
from carlt.data.subsets import Profile, Rule, make_long_tailed
from carlt.errors import CarltError
from carlt.ranges import AtLeastOne, Count, CountOrZero, Seed, checked

FOLDER = "tiny-imagenet-200"
SIDE = 64  # pixels


class TinyImageNetLT(LongTailDataModule):
    """Tiny-ImageNet-LT: 200 classes of 64 x 64 images, 500 to 5 per class at imbalance factor 100, 21,549 in all.

    There is no official list; this is the CIFAR-LT rule on Tiny-ImageNet's training images, sorted by name within the
    classes of ``wnids.txt``, and the official validation split (10,000 images) is the test split. The images needed
    are decoded once and kept at ``min(image_size, 64)`` pixels.

    Args:
        root: folder with ``tiny-imagenet-200/``, or that folder.
        num_classes: how many classes ``wnids.txt`` should list; the official 200 by default.
        classes: the WordNet ids of the classes to use, largest first; by default all of ``wnids.txt`` in its order.
        on_error: whether an undecodable image is an error, or counted, logged and left out.
        official: whether an archive must be the published one, and counts too (500 training and 50 test images per
            class). Once it is unpacked, counts alone are checked.
        imbalance_factor, profile, subset, largest_class, val_per_class: as for CIFAR-LT.
    """

    name = "tiny_imagenet_lt"
    url = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
    sha256 = "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821"

    @checked
    def __init__(
        self,
        *,
        root: str | Path = "data/tiny_imagenet",
        num_classes: Count = 200,
        classes: Sequence[str] | None = None,
        imbalance_factor: AtLeastOne = 100,
        profile: Profile = "exponential",
        subset: Rule | Seed = "ldam",
        largest_class: Count | None = None,
        val_per_class: CountOrZero = 0,
        official: bool = True,
        **loading: Any,
    ):
        super().__init__(**loading)
        self.root, self.expected_classes, self.official = Path(root), num_classes, official
        self.classes = None if classes is None else list(classes)
        if self.classes is not None and (not self.classes or len(set(self.classes)) < len(self.classes)):
            raise CarltError("data.classes names no class, or one twice")
        self.imbalance_factor, self.profile, self.subset = imbalance_factor, profile, subset
        self.largest_class, self.val_per_class = largest_class, val_per_class

    @property
    def folder(self) -> Path:
        nested = self.root / FOLDER
        return nested if nested.is_dir() else self.root

    def downloads(self) -> list[Download]:
        """The official zip, unpacked."""
        there = (self.folder / "wnids.txt").exists()
        zipped = Download(self.url, self.root / f"{FOLDER}.zip", (self.sha256,), FOLDER, official=self.official)
        return [] if there else [zipped]

    def load(self) -> Splits:
        listed = self._wnids()
        wnids = self.classes or listed
        train, test = self._train(wnids), self._test(wnids, listed)
        if self.official:
            n = len(wnids)
            for split, each, where in ((train, 500, "train/"), (test, 50, "val/")):
                facts = Facts(images=each * n, classes=n, smallest=each, largest=each)
                facts.check(split.targets.bincount(minlength=n), f"{self.name}: {self.folder / where}")
        kept, held = make_long_tailed(
            train.targets,
            len(wnids),
            profile=self.profile,
            imbalance_factor=self.imbalance_factor,
            largest=self.largest_class,
            rule=self.subset,
            val_per_class=self.val_per_class,
        )
        side = min(self.image_size, SIDE)
        return Splits(
            train=decode_all(train.subset(kept), side, self.num_workers),
            val=decode_all(train.subset(held), side, self.num_workers) if self.val_per_class else None,
            test=decode_all(test, side, self.num_workers),
            class_names=self._names(wnids),
        )

    def _wnids(self) -> list[str]:
        remedy = f"run `{self.prepare_command(root=self.root)}`, or set data.root"
        if self.folder != self.root:  # prepare would find it there
            remedy = self._again()
        wnids = self._text("wnids.txt", self.name, remedy).split()
        if len(set(wnids)) < len(wnids) or any("/" in wnid for wnid in wnids):
            raise CarltError(
                f"{self.folder / 'wnids.txt'} lists a class twice, or one that is no name of a folder: correct it"
            )
        if unknown := [wnid for wnid in self.classes or () if wnid not in wnids]:
            raise CarltError(
                f"data.classes names {unknown[0]!r} ({len(unknown)} such), which {self.folder / 'wnids.txt'} does not "
                "list"
            )
        if self.classes is None and len(wnids) != self.expected_classes:
            raise CarltError(
                f"{self.folder / 'wnids.txt'} lists {len(wnids)} classes, expected {self.expected_classes}; "
                f"to use them, give data.num_classes={len(wnids)}"
            )
        return wnids

    def _again(self) -> str:
        return f"remove {self.folder} and run `{self.prepare_command(root=self.root)}`"

    def _text(self, name: str, what: str, remedy: str) -> str:
        """The text of a file; ``remedy`` is for a missing one."""
        path = require(self.folder / name, what, remedy)
        try:
            return read_required(path, what, self._again()).decode()
        except UnicodeDecodeError:
            raise CarltError(f"{path} is not UTF-8 text: {self._again()}") from None

    def _names(self, wnids: list[str]) -> list[str]:
        path = self.folder / "words.txt"  # names alone, so that it may be missing
        content = read_required(path, f"{self.name}'s names", "remove it") if path.is_file() else b""
        lines = content.decode(errors="replace").splitlines()
        words = dict(line.split("\t", 1) for line in lines if "\t" in line)
        return [f"{wnid} {words[wnid].split(',')[0]}" if wnid in words else wnid for wnid in wnids]

    def _train(self, wnids: list[str]) -> Split:
        paths, targets = [], []
        for label, wnid in enumerate(wnids):
            images = require(self.folder / "train" / wnid / "images", f"{self.name}'s class {wnid}", self._again())
            names = sorted(path.name for path in images.iterdir() if path.suffix == ".JPEG")
            paths += [f"train/{wnid}/images/{name}" for name in names]
            targets += [label] * len(names)
        return Split(FileImages(self.folder, paths, self.on_error), torch.tensor(targets))

    def _test(self, wnids: list[str], listed: list[str]) -> Split:
        annotations = self.folder / "val" / "val_annotations.txt"
        rows = self._text("val/val_annotations.txt", f"{self.name}'s test split", self._again()).splitlines()
        label_of: dict[str, int | None] = dict.fromkeys(listed) | {wnid: label for label, wnid in enumerate(wnids)}
        paths, targets = [], []
        for line, row in enumerate(rows, 1):
            name, _, rest = row.partition("\t")
            wnid = rest.split("\t")[0]
            if wnid not in label_of or "/" in name:
                raise CarltError(
                    f"{annotations}, line {line}: {row!r} is not `<file> <wnid> <box>` with a class of wnids.txt"
                )
            if (label := label_of[wnid]) is not None:
                paths.append(f"val/images/{name}")
                targets.append(label)
        return Split(FileImages(self.folder, paths, self.on_error), torch.tensor(targets))
