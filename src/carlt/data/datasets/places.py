"""Places-LT: Places365 thinned along a Pareto profile (Liu et al., CVPR 2019, section 4)."""

from pathlib import Path
from typing import Any

from carlt.data.datasets.listed import ListedLT, SplitName
from carlt.data.facts import Facts
from carlt.data.io.lists import Records

# Variants of the lists begin with train/, data_256/<letter>/ or data_large/<letter>/, then comes <class>/<file>.
PREFIX = r"^(?:\./)?[^/\n]{2,}/(?:[a-z]/)?"


class PlacesLT(ListedLT):
    """Places-LT: 365 scenes, 62,500 training images, 5 to 4,980 per class; validation and test are balanced.

    ``root`` holds the images of Places365: ``train/<class>/*.jpg`` and ``val/<class>/*.jpg``, or as the archives
    unpack: ``data_256/<letter>/<class>/*.jpg`` (or ``data_large``) and ``val_256/*.jpg`` (or ``val_large``).
    Arguments: see ``ListedLT``.
    """

    name: str = "places_lt"
    classes = 365
    files = {"train": "Places_LT_train.txt", "val": "Places_LT_val.txt", "test": "Places_LT_test.txt"}
    facts = {
        "train": Facts(images=62_500, classes=365, smallest=5, largest=4_980, groups=(131, 163, 71)),
        "val": Facts(images=7_300, classes=365, smallest=20, largest=20),
        "test": Facts(images=36_500, classes=365, smallest=100, largest=100),
    }
    # For validation and test the digest of one variant is published; the counts are checked for all.
    sha256 = {
        "train": (
            "726c4871dcbf07ce2f857703bfe32e9a83ffbf52d704239f6d95c4f4f4c247f7",
            "09410632a22045212fb3231623261e8426ba8dc1887a2b633afeab78ba9c8868",
        ),
    }
    # A folder such as bow_window/indoor is bow_window-indoor in the lists.
    _train_layouts = [
        (r"^train/", "train/"),
        (r"^train/(.)([^/\n-]+)-?([^/\n]*)/", r"data_256/\1/\1\2/\3/"),
        (r"^train/(.)([^/\n-]+)-?([^/\n]*)/", r"data_large/\1/\1\2/\3/"),
    ]
    layouts = {
        "train": _train_layouts,
        "val": _train_layouts,
        "test": [(r"^val/", "val/"), *[(r"^val/[^/\n]+/", f"{flat}/") for flat in ("val", "val_256", "val_large")]],
    }
    lists_folder = "Places_LT"
    layout_help = (
        "Get train_256_places365standard.tar and val_256.tar (or the large ones) at http://places2.csail.mit.edu and "
        "unpack them there."
    )

    def __init__(self, *, root: str | Path = "data/places", **options: Any):
        super().__init__(root=root, **options)

    def canonical(self, split: SplitName, records: Records, folders: list[str]) -> Records:
        """Paths as in the first variant: ``train/<class>/<file>``, ``val/<class>/<file>``."""
        if split != "test":
            records = records.rewritten(PREFIX, "train/")
            return records.rewritten(r"^train/([^/\n]+)/([^/\n]+)/(?=[^/\n]+$)", r"train/\1-\2/")
        return records.rewritten(PREFIX, "val/")
