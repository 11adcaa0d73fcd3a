"""ImageNet-LT: ImageNet-2012 thinned along a Pareto profile (Liu et al., CVPR 2019, section 4)."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from carlt.data.datasets.listed import ListedLT, SplitName
from carlt.data.facts import Facts
from carlt.data.io.lists import Records


class ImageNetLT(ListedLT):
    """ImageNet-LT: 1,000 classes, 115,846 training images, 5 to 1,280 per class; validation and test are balanced.

    ``root`` holds ILSVRC 2012's images: ``train/<wnid>/*.JPEG`` and ``val/<wnid>/*.JPEG`` or ``val/*.JPEG``, or as the
    archives unpack: ``ILSVRC/Data/CLS-LOC/{train,val}``. Arguments: see ``ListedLT``.
    """

    name: str = "imagenet_lt"
    classes = 1_000
    files = {"train": "ImageNet_LT_train.txt", "val": "ImageNet_LT_val.txt", "test": "ImageNet_LT_test.txt"}
    facts = {
        "train": Facts(images=115_846, classes=1_000, smallest=5, largest=1_280, groups=(385, 479, 136)),
        "val": Facts(images=20_000, classes=1_000, smallest=20, largest=20),
        "test": Facts(images=50_000, classes=1_000, smallest=50, largest=50),
    }
    sha256 = {
        "train": ("efdbdad4f050237c310b2f354cf95a8b1d7c8d57a63c4ea4bb6bf2bcb012f37f",),
        "val": ("9af7ba688acf9532ff5845a8fb14a1e97fdc4c51ac48bc72c08ea9c3f7ff142e",),
        "test": (  # the same images as val/<wnid>/<file> and as val/<file>
            "d1590191cf8a71fada7b1aaedaa2d139a2aea93ff2f1b755319d0bd8dbaa55d5",
            "358650a8b13930b491559b09a48d05dd3c0d76860dc011995cd1896c1a07fb6d",
        ),
    }
    _train_layouts = [(r"^train/", "train/"), (r"^train/", "ILSVRC/Data/CLS-LOC/train/")]
    layouts = {
        "train": _train_layouts,
        "val": _train_layouts,  # the validation split is taken from ImageNet's training images
        "test": [
            (r"^val/", "val/"),
            (r"^val/n\d+/", "val/"),
            (r"^val/", "ILSVRC/Data/CLS-LOC/val/"),
            (r"^val/n\d+/", "ILSVRC/Data/CLS-LOC/val/"),
        ],
    }
    lists_folder = "ImageNet_LT"
    layout_help = (
        "ImageNet's images need an account: get ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar at "
        "https://image-net.org and unpack them to train/<wnid>/ and val/."
    )

    def __init__(self, *, root: str | Path = "data/imagenet", **options: Any):
        super().__init__(root=root, **options)

    def canonical(self, split: SplitName, records: Records, folders: list[str]) -> Records:
        """Add the class folders to a flat test list, so that both variants are the same."""
        if split != "test" or records.paths[0].count(b"/") == 2:
            return records
        wnids = [os.fsencode(folder).rpartition(b"/")[2] for folder in folders]
        flat = [path.rpartition(b"/")[2] for path in records.paths.tolist()]
        paths = [b"val/%s/%s" % (wnids[label], name) for label, name in zip(records.labels.tolist(), flat, strict=True)]
        return Records(records.source, np.array(paths, dtype=np.bytes_), records.labels, records.lines)

    def names(self, folders: list[str]) -> list[str]:
        """``<wnid> <English name>``; the English name alone is not unique (two cranes, two maillots)."""
        from torchvision.models import ResNet50_Weights  # imported here: it brings all of torchvision's models

        english = ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
        wnids = super().names(folders)
        # torchvision's names are in the order of the sorted wnids; for labels in another order they would be wrong.
        if len(wnids) != len(english) or wnids != sorted(wnids):
            return wnids
        return [f"{wnid} {name}" for wnid, name in zip(wnids, english, strict=True)]
