"""The parts of a job that need no run; tests/e2e/test_sweep.py has the rest."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from carlt.errors import CarltError
from carlt.runs.locks import exclusive_lock
from carlt.sweeps.job import check_objectives, job_folder, objective_values


def test_a_job_is_found_under_any_number(tmp_path: Path) -> None:
    fresh = job_folder(tmp_path / "3_car_seed0", "0123456789")
    assert fresh == tmp_path / "3_car_seed0_01234567"
    (tmp_path / "7_car_seed0_01234567").mkdir()
    (tmp_path / "3_car_seed0_76543210").mkdir()
    assert job_folder(tmp_path / "3_car_seed0", "0123456789") == tmp_path / "7_car_seed0_01234567"


def test_two_processes_do_not_do_the_same_job(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    hold = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", f"{hold}; input()", str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(CarltError, match="another process uses a_run"), exclusive_lock(lock, Path("a_run")):
            pass
        other.kill()  # a killed process holds nothing
    with exclusive_lock(lock, Path("a_run")):
        pass


def data(validation: str = "split", val_split: Any = "some images") -> Any:
    return SimpleNamespace(name="digits_lt", validation=validation, val_split=val_split)


def test_a_search_needs_the_validation_split() -> None:
    check_objectives(["val/worst_class", "val/balanced_accuracy"], data())
    with pytest.raises(CarltError, match="objective=test/worst_class: a search maximises a metric of the validation"):
        check_objectives(["val/few", "test/worst_class"], data())
    with pytest.raises(CarltError, match=r"objective=val/few: digits_lt has no validation split.*validation=test"):
        check_objectives(["val/few"], data("test"))
    with pytest.raises(CarltError, match="no validation split"):
        check_objectives(["val/few"], data("split", None))


def test_objectives_come_from_the_record() -> None:
    result = {"metrics": {"val/few": 0.25, "val/many": 0.5, "val/medium": None, "test/few": 1.0}}
    assert objective_values(result, ["val/many", "val/few"]) == [0.5, 0.25]
    with pytest.raises(
        CarltError, match="objective=val/fwe is not measured; choose from val/few, val/many, val/medium"
    ):
        objective_values(result, ["val/fwe"])
    with pytest.raises(CarltError, match="objective=val/medium has no value"):
        objective_values(result, ["val/medium"])
