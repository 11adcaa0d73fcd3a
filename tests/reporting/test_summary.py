import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from carlt import paths
from carlt.errors import CarltError
from carlt.reporting.summary import COLUMNS, find_runs, markdown, rows


def record(folder: Path, seed: int, accuracy: float | None, reg: str = "none", **values: Any) -> Path:
    """A run folder with nothing in it but what a summary reads."""
    folder.mkdir(parents=True)
    config = {
        "seed": seed,
        "choices": {"reg": reg},
        "reg": {"_target_": reg, **values},
        "callbacks": {"x": str(folder)},
    }
    (folder / paths.CONFIG).write_text(yaml.safe_dump(config))
    metrics = dict.fromkeys(COLUMNS, accuracy)
    (folder / paths.RESULT).write_text(json.dumps({"seed": seed, "metrics": metrics}))
    return folder


def test_runs_that_differ_by_seed_make_one_row(tmp_path: Path) -> None:
    for seed, (none, car) in enumerate([(0.1, 0.3), (0.3, 0.7)]):
        record(tmp_path / f"{seed}", seed, none)
        record(tmp_path / f"{seed + 10}", seed, car, "car")
    table = rows([tmp_path])
    assert [(row.label, sorted(row.runs)) for row in table] == [("reg=none", [0, 1]), ("reg=car", [0, 1])]
    lines = markdown(table).splitlines()
    assert lines[2].startswith("| reg=none | 2 | 20.0 ± 14.1 |")
    # Differences 0.2 and 0.4: mean 0.3, and half the 95 % interval is t(1) 12.706 * 0.1414 / sqrt(2).
    assert lines[4].startswith("| reg=car minus reg=none | 2 | +30.0 ± 127.1 |")


def test_a_label_names_what_sets_a_row_apart_and_no_more(tmp_path: Path) -> None:
    record(tmp_path / "1", 0, 0.1)
    record(tmp_path / "2", 0, 0.2, "car", weight=0.5)
    record(tmp_path / "3", 0, 0.3, "car", weight=2.0)
    assert [row.label for row in rows([tmp_path])] == ["reg=none", "reg=car, reg.weight=0.5", "reg=car, reg.weight=2.0"]


def test_jobs_of_a_sweep_come_in_their_order(tmp_path: Path) -> None:
    for job in (10, 2, 1):
        record(tmp_path / f"{job}_seed", job, 0.5)
    assert [folder.name for folder in find_runs([tmp_path])] == ["1_seed", "2_seed", "10_seed"]


def test_a_group_without_classes_is_a_dash(tmp_path: Path) -> None:
    record(tmp_path / "1", 0, None)
    assert "| - |" in markdown(rows([tmp_path]))


def test_one_seed_twice_is_an_error(tmp_path: Path) -> None:
    record(tmp_path / "1", 3, 0.5)
    record(tmp_path / "2", 3, 0.6)
    with pytest.raises(CarltError, match="seed 3"):
        rows([tmp_path])


def test_a_folder_without_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CarltError, match="no finished run"):
        find_runs([tmp_path])
