from pathlib import Path

import pytest

from carlt.errors import CarltError
from carlt.runs import paths
from carlt.training.callbacks import read_rows
from carlt.training.callbacks.metrics_csv import write_rows


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = [{"epoch": 0, "step": 5, "b": 0.1}, {"epoch": 1, "step": 10, "a": float("inf"), "b": 1 / 3}]
    write_rows(tmp_path / "m.csv", rows)
    assert (tmp_path / "m.csv").read_text().splitlines()[:2] == ["epoch,step,a,b", "0,5,,0.1"]
    assert read_rows(tmp_path / "m.csv") == rows


def test_a_finished_run_has_a_row_an_epoch(finished: Path) -> None:
    rows = read_rows(finished / paths.METRICS)
    assert [(row["epoch"], row["step"]) for row in rows] == [(0, 5), (1, 10), (2, 15)]
    every = {
        "train/loss",
        "train/penalty",
        "train_batches/accuracy",
        "train_batches/few",
        "val/accuracy",
        "val/worst_class",
        "car/spectral_norm",
    }
    assert all(every <= row.keys() for row in rows)
    assert "car/ema_gap" in rows[-1]


def test_a_new_run_does_not_take_over_old_rows(run, tmp_path: Path) -> None:
    write_rows(tmp_path / paths.METRICS, [{"epoch": 0, "step": 1, "old": 1.0}])
    with pytest.raises(CarltError, match="holds a run: go on with it"):
        run(tmp_path, "trainer.max_epochs=1", "reg=none")
