import csv
from dataclasses import replace

import pytest

from carlt.reporting.groups import DataSet
from carlt.reporting.published import FILE, published
from carlt.reporting.summary import COLUMNS

CIFAR = DataSet("cifar100_lt", 100, 100.0, [])


def test_every_line_of_the_file_is_sound() -> None:
    with open(FILE, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 100
    metrics = {column.metric: column for column in COLUMNS}
    for row in rows:
        values = [float(part) for part in row["value"].split("-")]
        assert values == sorted(values)
        limit = 1 if metrics[row["metric"]].scale == 1 else 100
        assert 0 < values[0] <= values[-1] <= limit
        assert row["source"]
        assert row["method"]
        assert row["setting"]
    keys = [tuple(row[key] for key in ("data", "imbalance_factor", "method", "setting", "metric")) for row in rows]
    assert len(set(keys)) == len(keys)


def test_numbers_of_a_method_come_together() -> None:
    (car,) = [known for known in published(CIFAR) if (known.method, known.setting) == ("CAR", "ViT-Small from scratch")]
    assert car.values == {"test/accuracy": "51.85", "test/worst_class": "14", "test/worst_ratio": "0.15"}
    assert "not stated" in car.source


@pytest.mark.parametrize(
    "other", [{"imbalance_factor": 40.0}, {"imbalance_factor": None}, {"num_classes": 50}, {"name": "cifar10_lt"}]
)
def test_only_for_the_same_data(other: dict) -> None:
    assert published(CIFAR)
    assert published(replace(CIFAR, **other)) == []
