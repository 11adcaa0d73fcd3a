import json
from pathlib import Path

import pytest

from carlt.reporting.groups import group_by_data_set
from carlt.reporting.summary import COLUMNS, Table, summarize
from carlt.runs.reading import read_runs

PLACE = {column.metric: i for i, column in enumerate(COLUMNS)}


def built(folder: Path) -> list[Table]:
    (data,) = group_by_data_set(read_runs([folder])[0])
    return summarize(data, data.baseline())


def test_percent_and_plain_units(make_run, tmp_path: Path) -> None:
    make_run("1", metrics={"test/few": 0.125, "test/classes_at_zero": 3.0, "test/worst_ratio": 0.4})
    (table,) = built(tmp_path)
    (row,) = table.rows
    assert [row.estimates[PLACE[f"test/{name}"]].mean for name in ("few", "classes_at_zero", "worst_ratio")] == [
        12.5,
        3,
        0.4,
    ]
    assert table.epoch == "last epoch (2)"


def test_the_epochs_are_those_of_the_shortest_and_the_longest_run(make_run, tmp_path: Path) -> None:
    make_run("1")
    path = make_run("2", reg="car") / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"epochs": 5}))
    assert built(tmp_path)[0].epoch == "last epoch (2 to 5)"


def test_every_row_is_compared_with_the_baseline_seed_by_seed(make_run, tmp_path: Path) -> None:
    for seed, (none, car) in enumerate([(0.1, 0.3), (0.3, 0.7)]):
        make_run(f"none{seed}", seed, none)
        make_run(f"car{seed}", seed, car, "car")
    make_run("car9", 9, 1.0, "car")  # nothing to pair it with
    (table,) = built(tmp_path)
    car, none = table.rows
    assert (table.baseline, none.differences, car.runs) == ("reg=none", [], 3)
    difference = car.differences[PLACE["test/accuracy"]]
    assert (difference.mean, difference.half, difference.n) == (pytest.approx(30), pytest.approx(127.06, abs=0.01), 2)


def test_the_best_of_a_column(make_run, tmp_path: Path) -> None:
    lower = {"test/classes_at_zero": 1.0, "test/ece": 0.1}
    make_run("1", accuracy=0.5, metrics=lower)
    make_run("2", accuracy=0.7, reg="car", metrics={**lower, "test/classes_at_zero": 5.0, "test/few": None})
    (table,) = built(tmp_path)
    none, car = (dict(zip(PLACE, row.best, strict=True)) for row in table.rows)
    assert (none["test/accuracy"], car["test/accuracy"]) == (False, True)
    assert (none["test/classes_at_zero"], car["test/classes_at_zero"]) == (True, False)
    assert not any(row["test/ece"] for row in (none, car))  # all the same
    assert not any(row["test/few"] for row in (none, car))  # nothing to compare with


def test_what_reads_the_same_is_equally_good(make_run, tmp_path: Path) -> None:
    make_run("1", accuracy=0.70004)
    make_run("2", accuracy=0.70001, reg="car")
    make_run("3", accuracy=0.5, reg="other")
    (table,) = built(tmp_path)
    assert [row.best[PLACE["test/accuracy"]] for row in table.rows] == [True, True, False]


def test_best_epochs_have_a_table_for_each_way_of_choosing(make_run, tmp_path: Path) -> None:
    on_val = {"chosen_by": "val/x on the validation split", "metrics": {"test/accuracy": 0.6}}
    on_test = {"chosen_by": "val/x on the TEST split", "metrics": {"test/accuracy": 0.9}}
    make_run("1", best=on_val)
    make_run("2", reg="car", best=on_val)
    make_run("3", reg="car", seed=1, best=on_test)
    last, validation, test = built(tmp_path)
    assert last.epoch == "last epoch (2)"
    assert validation.epoch == "best epoch, chosen by val/x on the validation split"
    assert test.epoch == "best epoch, chosen by val/x on the TEST split"
    assert [(row.label, row.runs) for row in validation.rows] == [("reg=none", 1), ("reg=car", 1)]
    assert [(row.label, row.runs) for row in test.rows] == [("reg=car", 1)]
    assert [test.columns[i].heading for i in test.shown()] == ["overall"]
    assert test.rows[0].estimates[PLACE["test/accuracy"]].mean == 90
