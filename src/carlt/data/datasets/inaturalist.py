"""iNaturalist 2018: a naturally long-tailed set of species (Van Horn et al., CVPR 2018)."""

import json
from pathlib import Path
from typing import Any

from carlt.data.datasets.listed import ListedLT, SplitName
from carlt.data.facts import Facts
from carlt.data.images import OnError
from carlt.data.io.download import Download
from carlt.data.io.lists import MAX_BYTES, Records, checked_records
from carlt.errors import CarltError
from carlt.runs.paths import check_file

JSON = {"train": "train2018.json", "test": "val2018.json"}
DAMAGED = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What reading a JSON of another content raises."""


class INaturalist2018(ListedLT):
    """iNaturalist 2018: 8,142 species, 437,513 training images, 2 to 1,000 per class; its validation split is the test.

    There is no third split, so the best epoch cannot be chosen honestly: use ``validation=none``.
    ``root`` holds ``train_val2018/<kingdom>/<id>/*.jpg``, ``lists`` either the two list files or the competition's
    ``train2018.json`` and ``val2018.json``, and perhaps its ``categories.json`` with the species' names.
    Arguments: see ``ListedLT``.
    """

    name = "inaturalist2018"
    mean, std = (0.466, 0.471, 0.380), (0.195, 0.194, 0.192)
    classes = 8_142
    files = {"train": "iNaturalist18_train.txt", "test": "iNaturalist18_val.txt"}
    facts = {
        "train": Facts(images=437_513, classes=8_142, smallest=2, largest=1_000, groups=(842, 3_701, 3_599)),
        "test": Facts(images=24_426, classes=8_142, smallest=3, largest=3),
    }
    sha256 = {
        "test": ("efaeff65f80641b60864470e6f255aa69453406ef5717eec8c6681748f3a61f3",)
    }  # none is published for train
    _layouts = [(r"^train_val2018/", "train_val2018/"), (r"^train_val2018/", "")]
    layouts = {"train": _layouts, "test": _layouts}
    lists_folder = "iNaturalist18"
    layout_help = (
        "Get train_val2018.tar.gz (120 GB) as https://github.com/visipedia/inat_comp/tree/master/2018 says and unpack "
        "it there."
    )

    def __init__(self, *, root: str | Path = "data/inaturalist2018", **options: Any):
        super().__init__(root=root, **options)

    def downloads(self) -> list[Download]:
        """The lists of splits of which the competition's JSON is not there."""
        return [each for each, split in zip(super().downloads(), self.files, strict=True) if not self._has_json(split)]

    def _has_json(self, split: SplitName) -> bool:
        return not (self.lists / self.files[split]).exists() and (self.lists / JSON[split]).exists()

    def records(self, split: SplitName) -> Records:
        """From the list file, or from the competition's JSON if there is no list."""
        if not self._has_json(split):
            return super().records(split)
        records = read_coco(self.lists / JSON[split], self.classes, self.on_error)
        self.check(split, records)
        return records

    def canonical(self, split: SplitName, records: Records, folders: list[str]) -> Records:
        """Paths begin with ``train_val2018/``; a folder before that is removed."""
        if all(path.startswith(b"train_val2018/") for path in records.paths.tolist()):
            return records
        return records.rewritten(r"^(?:.*/)?(?:train_val2018/)?(?=[^/\n]+/\d+/[^/\n]+$)", "train_val2018/")

    def names(self, folders: list[str]) -> list[str]:
        """The species' names if ``categories.json`` is there, else kingdom and number."""
        categories = self.lists / "categories.json"
        if not categories.exists():
            return [" ".join(folder.split("/")[-2:]) for folder in folders]
        try:
            names = {entry["id"]: str(entry["name"]) for entry in _read_json(categories)}
        except DAMAGED as error:
            raise CarltError(
                f"{categories} is not the competition's list of categories ({type(error).__name__}: {error}); get it "
                "again, or remove it to name classes by their folders"
            ) from None
        return [names.get(label, f"class {label}") for label in range(self.classes)]


def read_coco(path: Path, num_classes: int, on_error: OnError = "raise") -> Records:
    """Records of a COCO-style JSON: ``images`` with id and file_name, ``annotations`` with image_id and category_id.
    The line of a record is the number of its annotation."""
    try:
        content = _read_json(path)
        names = {image["id"]: image["file_name"] for image in content["images"]}
        if broken := [name for name in names.values() if "\n" in name]:
            raise ValueError(f"a line break in {broken[0]!r}")
        rows = [
            (names[entry["image_id"]].encode(), str(entry["category_id"]).encode()) for entry in content["annotations"]
        ]
    except DAMAGED as error:
        raise CarltError(
            f"{path} is not the competition's JSON ({type(error).__name__}: {error}); get it again"
        ) from None
    return checked_records(str(path), rows, num_classes, on_error)


def _read_json(path: Path) -> Any:
    check_file(path, str(path), MAX_BYTES)
    return json.loads(path.read_bytes())
