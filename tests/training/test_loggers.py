"""The parts of logging that need no run; tests/e2e has the rest."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from carlt.errors import CarltError
from carlt.reg import CAR
from carlt.runs.record import write_per_class, write_result
from carlt.training import loggers
from carlt.training.callbacks.metrics_csv import write_rows
from carlt.training.callbacks.progress import SweepPosition


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without any login."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    return tmp_path


def test_wandb_is_offline_without_a_key(tmp_path: Path) -> None:
    assert loggers.wandb_logger(tmp_path)._offline is True


def test_wandb_is_online_with_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert loggers.wandb_logger(tmp_path)._offline is False
    assert loggers.wandb_logger(tmp_path, offline=True)._offline is True


def test_a_name_that_wandb_refuses_is_a_mistake_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(CarltError, match=r"logger\.wandb\.project=a/b.*cannot contain"):
        loggers.wandb_logger(tmp_path, project="a/b")
    assert not list(tmp_path.iterdir())


def test_a_login_file_is_a_key(nobody: Path, tmp_path: Path) -> None:
    login = nobody / ".netrc"
    login.write_text("machine api.wandb.ai login user password secret\n")
    login.chmod(0o600)
    assert loggers.wandb_logger(tmp_path)._offline is False


def test_a_resumed_run_keeps_its_wandb_run(tmp_path: Path) -> None:
    first, again = loggers.wandb_logger(tmp_path / "a"), loggers.wandb_logger(tmp_path / "a")
    other = loggers.wandb_logger(tmp_path / "b")
    assert first.version == again.version != other.version


def test_a_wandb_run_is_grouped_by_its_preset_or_its_options(tmp_path: Path) -> None:
    choices = {"data": "digits_lt", "reg": "car", "loss": "ce", "stage": None, "family": "cnn"}

    def started(**options: Any) -> dict[str, Any]:
        return loggers.wandb_logger(tmp_path, **options)._wandb_init

    plain = started(choices=choices, position=SweepPosition("a_sweep", 1, 2))
    assert plain["group"] == "digits_lt_ce_car"
    assert plain["tags"] == ["data=digits_lt", "loss=ce", "reg=car", "sweep=a_sweep"]
    preset = started(choices=choices | {"preset": "main/x"}, tags=["mine", "y" * 99])
    assert preset["group"] == "main/x"
    assert preset["tags"][:2] == ["mine", "y" * 64]  # W&B takes no longer ones
    assert preset["tags"][-1] == "preset=main/x"
    assert started(choices=choices, group="ours")["group"] == "ours"


def test_tensorboard_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("tensorboard")

    monkeypatch.setattr(loggers, "TensorBoardLogger", missing)
    with pytest.raises(CarltError, match=r"pip install 'carlt\[tensorboard\]'"):
        loggers.tensorboard_logger(tmp_path)


def test_tensorboard_keeps_the_curves_and_lists_the_hyperparameters(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    write_rows(tmp_path / "metrics.csv", [{"epoch": e, "step": 5 * (e + 1), "val/few": 0.1 * e} for e in range(3)])
    picture = tmp_path / "x.png"
    Image.new("RGB", (4, 3)).save(picture)
    logger = loggers.tensorboard_logger(tmp_path)
    config = OmegaConf.create({"choices": {"reg": "car"}, "reg": {"_target_": "carlt.reg.CAR"}, "seed": 3})
    loggers.log_config([logger], config)
    for epoch in range(3):
        logger.log_metrics({"val/few": 0.1 * epoch}, 5 * (epoch + 1))
    write_per_class(tmp_path, ["a", "b", "c"], [5, 90, 30], [10, 10, 0], [1, 9, 0])
    write_result(tmp_path, {"metrics": {}, "best": {"epoch": 1, "metrics": {"test/few": 0.4}}})
    metrics = {"val/few": 0.2, "test/few": 0.3, "test/many": float("nan"), "train/few": 0.9}
    loggers.log_results([logger], tmp_path, metrics, {"x": picture})
    loggers.finish([logger])
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("val/few")] == [5, 10, 15]
    assert [(event.step, event.value) for event in events.Scalars("test/few")][-1] == (15, pytest.approx(0.3))
    assert [events.Scalars(name)[-1].value for name in ("train_evaluation/few", "best/test/few", "best/epoch")] == [
        pytest.approx(0.9), pytest.approx(0.4), 2,
    ]  # fmt: skip
    ranks = [(event.step, round(event.value, 2)) for event in events.Scalars("classes/test_accuracy")]
    assert ranks == [(1, 0.9), (3, 0.1)]  # by training images; the second class has no test images
    (image,) = events.Images("plots/x")
    assert (image.step, image.width, image.height) == (15, 4, 3)
    start = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"reg/weight" in start
    assert b"seed" in start


def test_of_many_classes_the_curve_has_evenly_spaced_ones(tmp_path: Path) -> None:
    counts = list(range(1, 1001))
    write_per_class(tmp_path, [f"class {c}" for c in range(1000)], counts, [1] * 1000, [0] * 1000)
    points = loggers._ranked(tmp_path)
    assert len(points) == loggers.POINTS
    assert all(row.train_count == 1001 - rank for rank, row in points)
    ranks = torch.tensor([rank for rank, _ in points])
    assert (ranks[0], ranks[-1]) == (1, 1000)
    assert set(ranks.diff().tolist()) <= {5, 6}


def test_defaults_of_constructors_are_part_of_the_logged_config() -> None:
    config = {"reg": {"_target_": "carlt.reg.CAR", "beta": 0.9}, "callbacks": {"x": {"_target_": "no.such"}}}
    defaults = loggers._defaults(config)
    assert defaults["reg/weight"] == inspect.signature(CAR).parameters["weight"].default
    assert not [name for name in defaults if name.startswith("callbacks")]
