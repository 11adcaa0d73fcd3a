"""Numbers that others published, kept beside the code as ``published.csv``; never part of a mean or a comparison."""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from carlt.reporting.groups import DataSet

FILE = Path(__file__).with_name("published.csv")


READING = "≈"
"""Before a number that was read from a figure."""


@dataclass(frozen=True)
class Published:
    """The published numbers of a method: ``values`` by metric as printed, in %, a range where sources differ; and the
    source of each."""

    method: str
    setting: str
    values: Mapping[str, str]
    sources: Mapping[str, str]

    def number(self, metric: str) -> float:
        """The number as such, the middle of a range; NaN if there is none."""
        text = self.values.get(metric, "").removeprefix(READING)
        return fmean(map(float, text.split("-"))) if text else math.nan


def published(data: DataSet) -> list[Published]:
    """The published numbers for a data set, its classes and its imbalance factor, in the file's order."""
    values: dict[tuple[str, str], dict[str, str]] = {}
    sources: dict[tuple[str, str], dict[str, str]] = {}
    with open(FILE, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            factor = float(row["imbalance_factor"]) if row["imbalance_factor"] else None
            if (row["data"], int(row["classes"]), factor) == (data.name, data.num_classes, data.imbalance_factor):
                key, reading = (row["method"], row["setting"]), "read from figure" in row["source"]
                values.setdefault(key, {})[row["metric"]] = READING * reading + row["value"]
                sources.setdefault(key, {})[row["metric"]] = row["source"]
    return [Published(*key, values[key], sources[key]) for key in values]
