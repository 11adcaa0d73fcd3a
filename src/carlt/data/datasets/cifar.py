"""CIFAR-10-LT and CIFAR-100-LT: exponential or step subsets of CIFAR (Cao et al., NeurIPS 2019, section 4)."""

import hashlib
import math
import tarfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from carlt.data.datasets.png_folders import has_class_folders, read_class_folders
from carlt.data.facts import OVERRIDE, Facts, check_digest
from carlt.data.images import ArrayImages, Split, Splits
from carlt.data.io.download import Download
from carlt.data.io.unpickle import read_pickle
from carlt.data.module import LongTailDataModule, read_required, require
from carlt.data.subsets import Profile, Rule, make_long_tailed
from carlt.errors import CarltError, first_line
from carlt.ranges import AtLeastOne, Count, CountOrZero, Seed, checked
from carlt.runs.paths import check_file
from carlt.runs.text import get_logger

log = get_logger(__name__)

MAX_BYTES = 1 << 30
"""Of a file in the archive; the largest official one has 155 million."""


class _CIFARLT(LongTailDataModule):
    """The base of both. ``largest`` is the size of a training class, ``folder`` the folder in the archive.

    The data are read from ``root/<folder>/`` or straight out of ``root/<folder>.tar.gz``; nothing in them is executed.
    Folders of image files, ``root/train/<class>/*.png`` and ``root/test/<class>/*.png``, work as well. Their images are
    in the order of their names, not in the archive's, so ``subset`` keeps other images.

    Args:
        root: folder with the archive, or with its unpacked folder.
        imbalance_factor: largest class over smallest, at least 1.
        profile: shape of the tail (``carlt.functional.profile``).
        subset: which images of a class stay (``carlt.data.subsets``); the published numbers differ in this.
        largest_class: training images of class 0; all of them by default.
        val_per_class: validation images of each class, taken from the images that the tail leaves unused. The official
            protocol has none. The head class has no image left, so lower it: ``largest_class=475 val_per_class=25``.
        official: whether the files must be the published ones: the archive by its sha256, an unpacked folder by the md5
            of its files. Folders of image files, which nobody has published, are checked by their counts alone.
    """

    mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    published: ClassVar[str]  # the class of torchvision that has the md5 of the files
    archive: ClassVar[str]
    folder: ClassVar[str]  # inside the archive
    url: ClassVar[str]
    sha256: ClassVar[str]
    train_files: ClassVar[list[str]]
    test_files: ClassVar[list[str]]
    names_file: ClassVar[str]
    names_key: ClassVar[bytes]
    labels_key: ClassVar[bytes]
    train_facts: ClassVar[Facts]
    test_facts: ClassVar[Facts]

    @checked
    def __init__(
        self,
        *,
        root: str | Path = "data/cifar",
        imbalance_factor: AtLeastOne = 100,
        profile: Profile = "exponential",
        subset: Rule | Seed = "ldam",
        largest_class: Count | None = None,
        val_per_class: CountOrZero = 0,
        official: bool = True,
        **loading: Any,
    ):
        super().__init__(**loading)
        self.root, self.official = Path(root), official
        self.imbalance_factor, self.profile, self.subset = imbalance_factor, profile, subset
        self.largest_class, self.val_per_class = largest_class, val_per_class

    def downloads(self) -> list[Download]:
        """The archive; it is read as it is, never unpacked."""
        there = (self.root / self.folder).is_dir() or self._is_folders()
        return [] if there else [Download(self.url, self.root / self.archive, (self.sha256,))]

    def load(self) -> Splits:
        everything, test, names = self._from_folders() if self._is_folders() else self._from_archive()
        if self.official:
            for split, facts, part in ((everything, self.train_facts, "train"), (test, self.test_facts, "test")):
                counts = split.targets.bincount(minlength=len(names))
                facts.check(counts, f"{self.name}: the {part} images in {self.root}")
        kept, held = make_long_tailed(
            everything.targets,
            len(names),
            profile=self.profile,
            imbalance_factor=self.imbalance_factor,
            largest=self.largest_class,
            rule=self.subset,
            val_per_class=self.val_per_class,
        )
        val = everything.subset(held) if self.val_per_class else None
        return Splits(train=everything.subset(kept), val=val, test=test, class_names=names)

    def _is_folders(self) -> bool:
        archives = (self.root / self.folder, self.root / self.archive)
        return has_class_folders(self.root) and not any(path.exists() for path in archives)

    def _from_folders(self) -> tuple[Split, Split, list[str]]:
        log.warning(
            "%s is read from folders of image files, in the order of their names: data.subset=%s keeps other images "
            "than from the archive", self.name, self.subset,
        )  # fmt: skip
        return read_class_folders(self.root, 32, self.num_workers, self.on_error)

    def _from_archive(self) -> tuple[Split, Split, list[str]]:
        files = {
            name: read_pickle(content, f"{self.name}'s file {name}", published=self.official)
            for name, content in self._read([*self.train_files, *self.test_files, self.names_file]).items()
        }
        names = self._names(files)
        return self._split(files, self.train_files, names), self._split(files, self.test_files, names), names

    def _read(self, names: list[str]) -> dict[str, bytes]:
        """The archive's files by name, from its unpacked folder if there is one, else straight out of the archive."""
        folder, archive = self.root / self.folder, self.root / self.archive
        prepare = f"run `{self.prepare_command(root=self.root)}`"
        if folder.is_dir():
            remedy = f"remove {folder} and {prepare}"
            files = {}
            for name in names:
                files[name] = read_required(folder / name, f"{self.name}'s file {name}", remedy, MAX_BYTES)
                if self.official:
                    self._check_published(folder / name, files[name], remedy)
            return files
        remedy = f"point data.root at the folder that holds {self.archive}, or train/<class>/ and test/<class>/"
        require(archive, self.name, f"{prepare}, or {remedy}")
        check_file(archive, str(archive), math.inf)
        if self.official:
            check_digest(archive, (self.sha256,))
        try:
            with tarfile.open(archive) as tar:
                return {name: _member(tar, f"{self.folder}/{name}") for name in names}
        except Exception as error:  # each kind of compression has errors of its own
            reason = first_line(error)
            raise CarltError(f"{archive} cannot be read ({reason}); remove it and {prepare}") from None

    def _check_published(self, path: Path, content: bytes, remedy: str) -> None:
        """CarltError unless ``content`` is that of the published file, whose md5 torchvision has."""
        from torchvision import datasets

        of: Any = getattr(datasets, self.published)
        md5 = dict([*of.train_list, *of.test_list, (of.meta["filename"], of.meta["md5"])])[path.name]
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != md5:
            raise CarltError(
                f"{path} is not the official file (md5: expected {md5}, found {found}); {remedy}, or, {OVERRIDE}"
            )

    def _again(self) -> str:
        return f"remove the data in {self.root} and run `{self.prepare_command(root=self.root)}`"

    def _names(self, files: dict[str, dict[bytes, Any]]) -> list[str]:
        names = self._entry(files, self.names_file, self.names_key)
        try:
            return [bytes.decode(name) for name in names]
        except (TypeError, UnicodeDecodeError):
            raise CarltError(
                f"{self.name}'s file {self.names_file}: {self.names_key.decode()} is no list of names in UTF-8; "
                f"{self._again()}"
            ) from None

    def _entry(self, files: dict[str, dict[bytes, Any]], file: str, key: bytes) -> Any:
        entries = files[file]
        if key not in entries:
            raise CarltError(
                f"{self.name}'s file {file} has no entry {key.decode()}; it holds {sorted(map(str, entries))}; "
                f"{self._again()}"
            )
        return entries[key]

    def _split(self, files: dict[str, dict[bytes, Any]], batches: list[str], names: list[str]) -> Split:
        pixels = [self._entry(files, batch, b"data") for batch in batches]
        labels = [self._entry(files, batch, self.labels_key) for batch in batches]
        for batch, images, classes in zip(batches, pixels, labels, strict=True):
            if not isinstance(images, np.ndarray) or not isinstance(classes, list):
                raise CarltError(
                    f"{self.name}'s file {batch} has no array of images, or no list of labels; {self._again()}"
                )
            if images.shape != (len(classes), 3 * 32 * 32):
                raise CarltError(
                    f"{self.name}'s file {batch} has images {images.shape} and {len(classes)} labels; {self._again()}"
                )
            if not all(isinstance(label, int) and 0 <= label < len(names) for label in classes):
                raise CarltError(
                    f"{self.name}'s file {batch} has a label outside 0 to {len(names) - 1}; {self._again()}"
                )
        return Split(
            ArrayImages(torch.from_numpy(np.concatenate(pixels)).view(-1, 3, 32, 32)),
            torch.tensor([label for classes in labels for label in classes]),
        )


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    """The content of a file in the archive; an archive of zeros may unpack to more than memory holds."""
    file, size = tar.extractfile(name), tar.getmember(name).size
    if file is None or size > MAX_BYTES:
        raise ValueError(f"{name} is no file, or larger than {MAX_BYTES >> 20} MiB")
    return file.read()


class CIFAR10LT(_CIFARLT):
    """CIFAR-10-LT: 10 classes, 5,000 to 50 images per class at imbalance factor 100; 12,406 in all."""

    name = "cifar10_lt"
    published = "CIFAR10"
    archive, folder = "cifar-10-python.tar.gz", "cifar-10-batches-py"
    url = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
    sha256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
    train_files, test_files = [f"data_batch_{i}" for i in range(1, 6)], ["test_batch"]
    names_file, names_key, labels_key = "batches.meta", b"label_names", b"labels"
    train_facts = Facts(images=50_000, classes=10, smallest=5_000, largest=5_000)
    test_facts = Facts(images=10_000, classes=10, smallest=1_000, largest=1_000)


class CIFAR100LT(_CIFARLT):
    """CIFAR-100-LT: 100 classes, 500 to 5 images per class at imbalance factor 100; 10,847 in all."""

    name = "cifar100_lt"
    published = "CIFAR100"
    archive, folder = "cifar-100-python.tar.gz", "cifar-100-python"
    url = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
    sha256 = "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"
    train_files, test_files = ["train"], ["test"]
    names_file, names_key, labels_key = "meta", b"fine_label_names", b"fine_labels"
    train_facts = Facts(images=50_000, classes=100, smallest=500, largest=500)
    test_facts = Facts(images=10_000, classes=100, smallest=100, largest=100)
