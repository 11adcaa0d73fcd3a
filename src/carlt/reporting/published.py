"""Numbers that others published, kept beside the code as ``published.csv``; never part of a mean or a comparison."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from carlt.reporting.groups import DataSet

FILE = Path(__file__).with_name("published.csv")


@dataclass(frozen=True)
class Published:
    """The published numbers of a method: ``values`` by metric as printed, in %, a range where sources differ."""

    method: str
    setting: str
    source: str
    values: Mapping[str, str]


def published(data: DataSet) -> list[Published]:
    """The published numbers for a data set, its classes and its imbalance factor, in the file's order."""
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    with open(FILE, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            factor = float(row["imbalance_factor"]) if row["imbalance_factor"] else None
            if (row["data"], int(row["classes"]), factor) == (data.name, data.num_classes, data.imbalance_factor):
                found.setdefault((row["method"], row["setting"], row["source"]), {})[row["metric"]] = row["value"]
    return [Published(*key, values) for key, values in found.items()]
