"""What a user asks of Lightning's trainer: accumulation, clipping, precision, fewer steps; and a run that diverges."""

import math
from pathlib import Path

import pytest
import torch

from carlt.errors import CarltError
from carlt.runs import paths
from carlt.training.callbacks import read_checkpoint

EPOCHS, BATCHES = 2, 5


def trained(run, folder: Path, *overrides: str) -> tuple[dict, dict[str, torch.Tensor]]:
    """``last.ckpt`` of a short run with CAR, and the buffers of CAR in it."""
    run(folder, "reg=car", f"trainer.max_epochs={EPOCHS}", *overrides)
    checkpoint = read_checkpoint(paths.checkpoint(folder, "last"))
    state = checkpoint["state_dict"]
    assert all(value.isfinite().all() for value in state.values())
    return checkpoint, {name.removeprefix("reg."): value for name, value in state.items() if name.startswith("reg.")}


def test_accumulated_and_clipped_gradients(run, tmp_path: Path) -> None:
    options = ("trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=1.0")
    checkpoint, car = trained(run, tmp_path, *options)
    assert checkpoint["global_step"] == EPOCHS * math.ceil(BATCHES / 2)
    assert (car["updates"] == EPOCHS * BATCHES).all()  # the confusion takes in every batch that it is shown
    assert car["spectral_norm"] > 0


def test_bfloat16_mixed_leaves_car_in_float32(run, tmp_path: Path) -> None:
    _, car = trained(run, tmp_path, "trainer.precision=bf16-mixed", "model.width=4")
    assert {value.dtype for value in car.values()} == {torch.float32, torch.int64}
    assert (car["updates"] == EPOCHS * BATCHES).all()


@pytest.mark.parametrize(
    ("option", "steps"),
    [
        ("trainer.accumulate_grad_batches=2", 6),  # of five batches an epoch
        ("trainer.limit_train_batches=3", 6),
        pytest.param("trainer.limit_train_batches=0.5", 4, marks=pytest.mark.slow),
        pytest.param("trainer.limit_train_batches=99", 10, marks=pytest.mark.slow),
    ],
)
def test_the_schedule_ends_with_the_last_step(option: str, steps: int, run, tmp_path: Path) -> None:
    run(tmp_path, "reg=none", "trainer.max_epochs=2", "optim.schedule=cosine", "optim.warmup_epochs=0", option)
    checkpoint = read_checkpoint(paths.checkpoint(tmp_path, "last"))
    (schedule,) = checkpoint["lr_schedulers"]
    assert checkpoint["global_step"] == schedule["last_epoch"] == steps
    assert schedule["_last_lr"] == pytest.approx([0], abs=1e-12)


@pytest.mark.parametrize("max_skipped", [2, 3])
def test_a_run_that_diverges_stops_with_one_line_and_a_checkpoint(run, max_skipped: int, tmp_path: Path) -> None:
    with pytest.raises(CarltError, match=f"not finite in {max_skipped} steps in a row: training has diverged") as stop:
        run(tmp_path, "reg=car", f"reg.max_skipped={max_skipped}", "optim.lr=1e30")
    assert "\n" not in str(stop.value)
    stopped = read_checkpoint(paths.checkpoint(tmp_path, "stopped"))
    assert stopped["state_dict"]["reg.skipped_in_a_row"] == max_skipped
    assert stopped["state_dict"]["reg.confusion"].isfinite().all()
    assert not (tmp_path / paths.RESULT).exists()


def test_a_run_without_regularizer_that_diverges_has_no_result(run, tmp_path: Path) -> None:
    with pytest.raises(CarltError, match=r"diverged in epoch 1: weights .* a smaller optim\.lr"):
        run(tmp_path, "reg=none", "optim.lr=1e30")
    assert not (tmp_path / paths.RESULT).exists()
    assert not paths.checkpoint(tmp_path, "last").exists()
