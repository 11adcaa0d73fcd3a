"""What is shown with and without a terminal, of a run and of a sweep."""

import io
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from carlt.runs import paths
from carlt.runs.text import format_duration
from carlt.training.callbacks import Progress, read_rows
from carlt.training.callbacks.progress import SweepPosition
from carlt.training.callbacks.run_header import hints, run_header

SHOWN = {
    "loss": ("train/loss", "{:.3f}"),
    "val": ("val/accuracy", "{:.1%}"),
    "worst class": ("val/worst_class", "{:.1%}"),
    "spectral norm": ("car/spectral_norm", "{:.3f}"),
}


def test_one_line_at_the_end_of_a_short_run(run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "reg=car", "trainer.max_epochs=2")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    last = read_rows(tmp_path / paths.METRICS)[-1]
    assert line.startswith("epoch 2/2")
    for label, (name, style) in SHOWN.items():
        assert f"{label} {style.format(last[name]).replace('%', ' %')}" in line
    assert "step loss " in line
    assert "lr " in line
    assert line.endswith(" images/s")


def test_a_line_as_often_as_asked(run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "reg=none", "trainer.max_epochs=3", "callbacks.progress.plain_every_s=0")
    lines = [line for line in capsys.readouterr().out.splitlines() if "epoch" in line and "batch" not in line]
    lines = [line for line in lines if line.startswith("epoch ")]
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


BATCH = [[0] * 8]


def trainer(epoch: int) -> Any:
    metrics = {"train/loss": 0.5, "val/worst_class": 0.25, "car/spectral_norm": 0.125}
    return SimpleNamespace(
        current_epoch=epoch,
        max_epochs=4,
        num_training_batches=2,
        is_global_zero=True,
        callback_metrics=metrics,
        world_size=1,
        loggers=[],
        global_step=10,
        num_test_batches=[3],
        optimizers=[SimpleNamespace(param_groups=[{"lr": 0.05}])],
        check_val_every_n_epoch=1,
        accumulate_grad_batches=1,
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
    assert rest.endswith("worst class 25.0 %  spectral norm 0.125    sweep: about 2 min left\n")


@pytest.mark.parametrize("width", [80, 160])
def test_a_terminal_shows_a_bar_with_all_its_numbers(width: int) -> None:
    screen = io.StringIO()
    progress = Progress(position=SweepPosition("s", 2, 3, seconds=7200))
    progress.console = Console(file=screen, force_terminal=True, width=width, color_system=None)
    progress.on_train_start(trainer(0), None)  # type: ignore[arg-type]
    progress.refreshed -= 2
    progress.on_train_batch_end(trainer(0), None, {"loss": 0.75}, BATCH, 0)  # type: ignore[arg-type]
    progress.bar.refresh()
    progress.on_train_epoch_end(trainer(1), None)  # type: ignore[arg-type]
    progress.on_train_end(trainer(3), None)  # type: ignore[arg-type]
    shown = screen.getvalue()
    for part in (
        "job 2/3",
        "2/4",
        "batch 1/2",
        "lr 0.05",
        "images/s",
        "loss 0.500",
        "worst class 25.0 %",
        "spectral norm 0.125",
        "sweep: about 2.0 h left",
    ):
        assert part in shown, part


def test_without_a_terminal_long_epochs_and_evaluations_show_where_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    progress = Progress(position=SweepPosition("s", 2, 3, parallel_jobs=2), run_dir=Path("/runs/2_car"))
    progress.on_train_start(trainer(0), None)  # type: ignore[arg-type]
    clock[0] += 16
    progress.on_train_batch_end(trainer(0), None, {"loss": 0.75}, BATCH, 0)  # type: ignore[arg-type]
    clock[0] += 16
    progress.on_validation_batch_end(trainer(0), None, None, None, 4)  # type: ignore[arg-type]
    progress.on_test_start(trainer(0), None)  # type: ignore[arg-type]
    clock[0] += 1
    progress.on_test_batch_end(trainer(0), None, None, None, 0)  # type: ignore[arg-type]
    clock[0] += 15
    progress.on_test_batch_end(trainer(0), None, None, None, 1)  # type: ignore[arg-type]
    assert capsys.readouterr().out.splitlines() == [
        f"job 2/3 2_car  {line}"
        for line in ("epoch 1/4  batch 1/2  step loss 0.750  lr 0.05  0 images/s", "epoch 1/4  validation batch 5",
                     "evaluation, batch 2/3")
    ]  # fmt: skip


def test_an_evaluation_has_its_own_bar() -> None:
    screen = io.StringIO()
    progress = Progress()
    progress.console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    progress.on_test_start(trainer(0), None)  # type: ignore[arg-type]
    progress.on_test_batch_end(trainer(0), None, None, None, 2)  # type: ignore[arg-type]
    progress.on_test_end(trainer(0), None)  # type: ignore[arg-type]
    assert "evaluation, batch" in screen.getvalue()
    assert "3/3" in screen.getvalue()


def test_jobs_that_run_at_once_have_no_bars() -> None:
    progress = Progress(position=SweepPosition("s", 2, 3, parallel_jobs=2))
    progress.console = Console(file=io.StringIO(), force_terminal=True)
    progress.on_test_start(trainer(0), None)  # type: ignore[arg-type]
    assert progress.bar is None


def test_what_runs_is_shown_before_it_starts(run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "reg=car", "model=small_cnn", "trainer.max_epochs=1")
    shown = capsys.readouterr().out
    header = shown[: shown.index("epoch 1/1")]
    for part in ("digits_lt: 10 classes, 299 train", "500 test images of 8 px", "SmallCNN, ", "CAR", "1 x cpu",
                 "precision 32-true", str(tmp_path)):  # fmt: skip
        assert part in header, part
    assert f"Next: python -m carlt.report {tmp_path}" in shown
    assert re.search(r"Training took about \S+ (s|min), its evaluation about ", shown)
    assert " in all.\n" in shown


@pytest.mark.parametrize(("jobs", "name"), [(1, ""), (2, "job 2/3 2_car  ")])
def test_jobs_that_run_at_once_have_their_name_on_each_line(
    jobs: int, name: str, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr("carlt.training.callbacks.progress.run_header", lambda *_: ["data", "network"])
    progress = Progress(position=SweepPosition("s", 2, 3, parallel_jobs=jobs), run_dir=Path("/runs/2_car"))
    progress.on_fit_start(trainer(0), None)  # type: ignore[arg-type]
    assert capsys.readouterr().out == f"{name}data\n{name}network\n"


def test_classes_without_test_images_are_named_before_the_training() -> None:
    splits = SimpleNamespace(
        named=lambda: {"train": [0], "test": [0]}, untested=lambda: "1 class has no test images: b"
    )
    data = SimpleNamespace(splits=splits, name="x", num_classes=2, image_size=8)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    of = SimpleNamespace(datamodule=data, strategy=strategy, world_size=1, precision="32-true", loggers=[])
    module = SimpleNamespace(parameters=lambda: [], model=torch.nn.Identity(), loss=None, reg=None, average=None)
    lines = list(run_header(of, module))  # type: ignore[arg-type]
    assert lines[1] == "note     1 class has no test images: b"


@pytest.mark.parametrize(
    ("adapter", "average", "said"),
    [
        (False, False, "network  Linear, 20 k weights"),
        (True, False, "network  Linear, 20 k weights, 100 of them trained"),
        (False, True, "network  Linear, 20 k weights, their EMA is evaluated"),
    ],
)
def test_the_header_counts_weights(adapter: bool, average: bool, said: str) -> None:
    module: Any = torch.nn.Module()
    module.model, module.loss, module.reg = torch.nn.Linear(200, 100), torch.nn.Module(), torch.nn.Module()
    module.model.weight.requires_grad_(not adapter)
    module.average = torch.nn.Linear(200, 100).requires_grad_(False) if average else None
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    of = SimpleNamespace(strategy=strategy, world_size=1, precision="32-true", loggers=[])
    assert next(run_header(of, module)) == said  # type: ignore[arg-type]


def test_hints_fit_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (8, 0))
    module = SimpleNamespace(model=torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1)), layout=torch.contiguous_format)
    gpu = torch.device("cuda")
    said = "\n".join(hints(gpu, "32-true", module))
    assert "bf16-mixed" in said
    assert "channels_last=true" in said
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (7, 5))  # torch emulates bfloat16 there
    assert "bf16-mixed" not in "\n".join(hints(gpu, "32-true", module))
    cpu = torch.device("cpu")
    monkeypatch.setattr("carlt.training.callbacks.run_header.native_bfloat16", lambda device: True)
    module.parameters = lambda: [torch.empty(1_000_000)]
    (hint,) = hints(cpu, "32-true", module)
    assert "trainer.precision=auto channels_last=auto" in hint
    assert list(hints(cpu, "bf16-mixed", module)) == []
    monkeypatch.setattr("carlt.training.callbacks.run_header.native_bfloat16", lambda device: False)
    assert list(hints(cpu, "32-true", module)) == []
    (hint,) = hints(cpu, "bf16-mixed", module)
    assert "trainer.precision=32-true" in hint
    monkeypatch.setattr("carlt.training.callbacks.run_header.native_bfloat16", lambda device: True)
    module.parameters = lambda: [torch.empty(999_999)]
    assert list(hints(cpu, "32-true", module)) == []
    module.layout = torch.channels_last
    assert list(hints(gpu, "bf16-mixed", module)) == []


def test_loggers_receive_the_learning_rate_and_the_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, logged = [100.0], []
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    of = trainer(0)
    of.loggers = [SimpleNamespace(log_metrics=lambda metrics, step: logged.append((metrics, step)))]
    progress = Progress()
    progress.on_train_start(of, None)  # type: ignore[arg-type]
    progress.on_train_epoch_start(of, None)  # type: ignore[arg-type]
    for k in range(2):
        clock[0] += 2
        progress.on_train_batch_end(of, None, {"loss": 0.75}, BATCH, k)  # type: ignore[arg-type]
    progress.on_train_epoch_end(of, None)  # type: ignore[arg-type]
    assert logged == [({"train/learning_rate": 0.05, "train/images_per_s": 4.0}, 9)]


def test_an_epoch_that_is_resumed_within_has_the_speed_since_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, logged = [1e6], []
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    of = trainer(0)
    of.loggers = [SimpleNamespace(log_metrics=lambda metrics, step: logged.append(metrics["train/images_per_s"]))]
    progress = Progress()
    progress.on_train_start(of, None)  # type: ignore[arg-type]
    clock[0] += 2
    progress.on_train_batch_end(of, None, {"loss": 0.75}, BATCH, 1)  # type: ignore[arg-type]
    progress.on_train_epoch_end(of, None)  # type: ignore[arg-type]
    assert logged == [4.0]


def test_the_loss_of_a_batch_is_whole_where_steps_take_several(capsys: pytest.CaptureFixture[str]) -> None:
    of, progress = trainer(0), Progress(plain_every_s=0)
    of.accumulate_grad_batches = 4
    progress.on_train_start(of, None)  # type: ignore[arg-type]
    progress.refreshed -= 1e3
    progress.on_train_batch_end(of, None, {"loss": 0.75 / 4}, BATCH, 0)  # type: ignore[arg-type]
    assert "step loss 0.750" in capsys.readouterr().out
