"""What is shown with and without a terminal, of a run and of a sweep."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from carlt.runs import paths
from carlt.training.callbacks import Progress, read_rows
from carlt.training.callbacks.progress import SweepPosition, format_duration

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


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "about 1 s"), (42, "about 42 s"), (100, "about 2 min"), (5000, "about 83 min"), (9000, "about 2.5 h")],
)
def test_durations_are_rough(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words


def test_the_time_left_of_a_sweep() -> None:
    assert SweepPosition("s", 3, 12).seconds_left() is None  # nothing is known before the first job is finished
    assert SweepPosition("s", 3, 12, seconds=10).seconds_left() == 10 + 9 * 10
    assert SweepPosition("s", 3, 12, parallel_jobs=3, seconds=10).seconds_left() == 10 + 3 * 10
    assert SweepPosition("s", 3, 12).seconds_left(4, 8) == 4 + 9 * 8
    assert SweepPosition("s", 3, 12, seconds=10).seconds_left(4, 8) == 4 + 9 * 10
    assert SweepPosition("s", 3, 12, parallel_jobs=None, seconds=10).seconds_left() is None  # a cluster decides


def trainer(epoch: int) -> Any:
    metrics = {"train/loss": 0.5, "val/worst_class": 0.25, "car/spectral_norm": 0.125}
    return SimpleNamespace(
        current_epoch=epoch, max_epochs=4, num_training_batches=2, is_global_zero=True, callback_metrics=metrics
    )


def test_a_line_tells_the_time_left(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    progress = Progress(position=SweepPosition("s", 2, 3))
    progress.on_train_start(trainer(1), None)  # type: ignore[arg-type]
    clock[0] += 20
    progress.on_train_epoch_end(trainer(1), None)  # type: ignore[arg-type]
    start, rest = capsys.readouterr().out.split("  loss")
    assert start == "job 2/3  epoch 2/4  20 s, about 40 s left"
    assert rest.endswith("worst class 0.250  spectral norm 0.125  sweep: about 2 min left\n")


@pytest.mark.parametrize("width", [80, 160])
def test_a_terminal_shows_a_bar_with_all_its_numbers(width: int) -> None:
    screen = io.StringIO()
    progress = Progress(position=SweepPosition("s", 2, 3, seconds=7200))
    progress.console = Console(file=screen, force_terminal=True, width=width, color_system=None)
    progress.on_train_start(trainer(0), None)  # type: ignore[arg-type]
    progress.on_train_batch_end(trainer(0), None, None, None, 0)  # type: ignore[arg-type]
    progress.on_train_epoch_end(trainer(1), None)  # type: ignore[arg-type]
    progress.on_train_end(trainer(3), None)  # type: ignore[arg-type]
    shown = screen.getvalue()
    for part in (
        "job 2/3",
        "2/4",
        "loss 0.500",
        "worst class 0.250",
        "spectral norm 0.125",
        "sweep: about 2.0 h left",
    ):
        assert part in shown, part
