"""What is shown where there is no terminal; the bar itself needs one."""

from pathlib import Path

import pytest

from carlt import paths
from carlt.callbacks import read_rows

pytestmark = pytest.mark.usefixtures("no_plots")

SHOWN = {
    "loss": "train/loss",
    "val": "val/accuracy",
    "worst class": "val/worst_class",
    "spectral norm": "car/spectral_norm",
}


def test_one_line_at_the_end_of_a_short_run(run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "reg=car", "trainer.max_epochs=2")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    last = read_rows(tmp_path / paths.METRICS)[-1]
    assert line.startswith("epoch 2/2")
    for label, name in SHOWN.items():
        assert f"{label} {last[name]:.3f}" in line


def test_a_line_as_often_as_asked(run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "reg=none", "trainer.max_epochs=3", "callbacks.progress.plain_every_s=0")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in lines] == ["1/3", "2/3", "3/3"]
    assert "spectral norm" not in lines[-1]
