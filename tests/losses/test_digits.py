"""Losses that run the network themselves learn the long-tailed digits beside CAR."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
LOSSES = ("bcl", "glmc", "paco", "ride")


@pytest.mark.parametrize("loss", LOSSES)
def test_it_beats_chance_three_times(loss: str, run, tmp_path: Path) -> None:
    result = run(tmp_path, f"loss={loss}", "reg=car", "trainer.max_epochs=30", "callbacks.car.gap_every_n_epochs=0")
    assert result["metrics"]["test/accuracy"] > 0.3  # of ten classes
