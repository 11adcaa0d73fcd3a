import csv
import math
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
        assert values[0] > 0 or row["metric"] == "test/worst_class"
        assert values[-1] <= limit
        assert any(word in row["source"] for word in ("arXiv", "github.com/", "second-hand", "Papers with Code"))
        assert row["method"]
        assert row["setting"]
    keys = [tuple(row[key] for key in ("data", "imbalance_factor", "method", "setting", "metric")) for row in rows]
    assert len(set(keys)) == len(keys)


def test_numbers_of_a_method_come_together() -> None:
    (car,) = [known for known in published(CIFAR) if (known.method, known.setting) == ("CAR", "ViT-Small from scratch")]
    assert car.values == {"test/accuracy": "51.85", "test/worst_class": "14", "test/worst_ratio": "0.15"}
    assert "table 1" in car.sources["test/accuracy"]
    assert "table 3" in car.sources["test/worst_class"]


def test_readings_of_a_figure_are_marked() -> None:
    rows = {row.method: row for row in published(DataSet("imagenet_lt", 1000, None, [])) if "ViT-Small" in row.setting}
    assert rows["Focal"].values == {"test/worst_class": "≈0", "test/accuracy": "≈49.8"}
    assert rows["LDAM-DRW"].values == {"test/few": "25.90", "test/accuracy": "50.39", "test/worst_class": "≈2"}
    assert (rows["LDAM-DRW"].number("test/worst_class"), rows["CE"].number("test/accuracy")) == (2.0, 46.51)
    marked = {m for row in rows.values() for m, text in row.values.items() if text.startswith("≈")}
    assert marked == {"test/worst_class", "test/accuracy"}
    assert all(
        ("figure" in row.sources[m]) == row.values[m].startswith("≈") for row in rows.values() for m in row.values
    )


def test_a_range_is_drawn_at_its_middle() -> None:
    (ce,) = [row for row in published(CIFAR) if (row.method, row.setting) == ("CE", "ResNet-32")]
    assert ce.number("test/accuracy") == pytest.approx(38.4)
    assert math.isnan(ce.number("test/few"))


def test_glmc_on_inaturalist_is_a_resnext() -> None:
    rows = published(DataSet("inaturalist2018", 8142, None, []))
    assert [row.setting for row in rows if row.method == "GLMC"] == ["ResNeXt-50"]


@pytest.mark.parametrize(
    "other", [{"imbalance_factor": 40.0}, {"imbalance_factor": None}, {"num_classes": 50}, {"name": "cifar10_lt"}]
)
def test_only_for_the_same_data(other: dict) -> None:
    assert published(CIFAR)
    assert published(replace(CIFAR, **other)) == []
