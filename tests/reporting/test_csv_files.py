"""Every number of a report comes back from its CSV files, with a column per setting."""

import csv
import io
import math
from pathlib import Path

import pytest

from carlt.reporting import csv_files
from carlt.reporting.groups import DataSet, group_by_data_set
from carlt.reporting.published import Published
from carlt.reporting.summary import Table, summarize
from carlt.runs.reading import read_runs

VALUES = {"test/accuracy": "38.3-38.5", "test/worst_ratio": "0.19"}
KNOWN = Published("R&D_1", "ViT", VALUES, dict.fromkeys(VALUES, "a table"))


@pytest.fixture
def data(make_run, tmp_path: Path) -> DataSet:
    for seed, accuracy in enumerate([0.1, 0.2, 0.3]):
        make_run(f"none{seed}", seed, accuracy, metrics={"test/worst_ratio": 0.5 if seed == 1 else None})
        if seed:
            make_run(f"car{seed}", seed, accuracy + 0.3, "car", weight=2.0, class_names=["=1+1", "b", "c"])
            make_run(f"more{seed}", seed, accuracy + 0.4, "car", weight=4.0)
    (found,) = group_by_data_set(read_runs([tmp_path])[0])
    return found


@pytest.fixture
def table(data: DataSet) -> Table:
    return summarize(data, data.baseline(), [KNOWN])[0]


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_gives_back_every_number(table: Table) -> None:
    rows = rows_of(csv_files.tables_csv([table]))
    measured = {(row["configuration"], row["metric"]): row for row in rows if row["kind"] == "measured"}
    for row in table.rows:
        for i, column in enumerate(table.columns):
            read = measured[row.label, column.metric]
            for name, value in (("mean", row.estimates[i].mean), ("sd", row.estimates[i].deviation)):
                assert math.isnan(value) if read[name] == "" else float(read[name]) == value
            assert (int(read["n"]), int(read["best"])) == (row.estimates[i].n, row.best[i])
            if row.differences and row.differences[i].n > 1:
                mean, half, n = row.differences[i]
                assert [float(read[k]) for k in ("difference", "ci95_low", "ci95_high")] == [
                    mean,
                    mean - half,
                    mean + half,
                ]
                assert (int(read["pairs"]), read["baseline"]) == (n, "reg=none")
    (known, ratio) = (row for row in rows if row["kind"] == "published")
    assert (known["published"], known["mean"], known["source"], ratio["published"]) == (
        "38.3-38.5",
        "",
        "a table",
        "0.19",
    )


def test_each_setting_is_a_column(data: DataSet, table: Table) -> None:
    for rows in (rows_of(csv_files.tables_csv([table])), rows_of(csv_files.seeds_csv([data]))):
        found = {(row["reg"], row["loss"], row["reg.weight"]) for row in rows if row.get("kind") != "published"}
        assert found == {("none", "ce", ""), ("car", "ce", "2.0"), ("car", "ce", "4.0")}
        assert list(rows[0]).count("data") == 1
        assert not [name for name in rows[0] if "_target_" in name or "checksum" in name]


def test_no_name_of_a_setting_is_a_formula(make_run, tmp_path: Path) -> None:
    for seed in (0, 1):
        make_run(f"a{seed}", seed, config={"choices": {"reg": "none", "loss": "ce", "=1+1": f"x{seed}"}})
    (data,) = group_by_data_set(read_runs([tmp_path])[0])
    tables = summarize(data, data.baseline(), [])
    for text in (csv_files.tables_csv(tables), csv_files.seeds_csv([data]), csv_files.classes_csv([data])):
        head = text.splitlines()[0].split(",")
        assert "'=1+1" in head
        assert "=1+1" not in head


def test_a_line_per_seed(data: DataSet) -> None:
    rows = rows_of(csv_files.seeds_csv([data]))
    assert len(rows) == 7
    by_folder = {Path(row["folder"]).name: row for row in rows}
    assert (by_folder["none1"]["seed"], by_folder["none1"]["test/accuracy"]) == ("1", "0.2")
    assert [by_folder[name]["test/worst_ratio"] for name in ("none0", "none1")] == ["", "0.5"]
    run = next(run for group in data.groups for run in group.runs.values())
    run.result["commit"] = '=HYPERLINK("http://evil","x")'
    run.result["metrics"]["=1+1"] = 0.5
    cells = [cell for row in rows_of(csv_files.seeds_csv([data])) for pair in row.items() for cell in pair]
    assert not [cell for cell in cells if cell.startswith("=")]


def test_a_line_per_seed_and_class(data: DataSet) -> None:
    rows = rows_of(csv_files.classes_csv([data]))
    assert len(rows) == 7 * 3
    run = next(run for group in data.groups for run in group.runs.values() if run.folder.name == "car2")
    mine = [row for row in rows if (row["reg.weight"], row["seed"]) == ("2.0", "2")]
    assert [float(row["accuracy"]) for row in mine] == [each.accuracy for each in run.classes]
    assert [row["class_name"] for row in mine] == ["'=1+1", "b", "c"]  # a spreadsheet computes nothing
