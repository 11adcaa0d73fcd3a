"""Shared by all tests: short runs on the bundled digits, in this process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from carlt import train
from carlt.command_line import check_overrides
from carlt.config import compose_config
from carlt.reporting import plots

Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def run() -> Run:
    """``run(folder, *overrides)``: a run on digits_lt, 3 epochs of 5 steps unless overridden; returns its result."""

    def run(folder: Path, *overrides: str) -> dict[str, Any]:
        overrides = ("trainer.accelerator=cpu", "trainer.max_epochs=3", *overrides)
        return train.run(compose_config("train", check_overrides("train", overrides)), folder)

    return run


@pytest.fixture(scope="session")
def resume() -> Run:
    """``resume(folder, *overrides)``: go on with the run in ``folder``; returns its result."""

    def resume(folder: Path, *overrides: str) -> dict[str, Any]:
        return train.run(train.resumed_config(folder, overrides), folder)

    return resume


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of a test draw nothing: that would take most of their time."""
    monkeypatch.setattr(plots, "draw_run", lambda run_dir: {})


@pytest.fixture(scope="session")
def finished(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of three epochs; tests read it and leave it as it is."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(folder, "reg=car")
    return folder
