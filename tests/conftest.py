"""Shared by all tests: short runs on the bundled digits in this process, and made-up run folders."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch._subclasses.fake_tensor import FakeTensorMode

from carlt.commands import run as run_module
from carlt.config.overrides import compose_checked
from carlt.config.stored import resumed_config
from carlt.reporting import plots
from carlt.reporting.summary import COLUMNS
from carlt.runs import paths
from carlt.runs.record import write_confusion, write_per_class, write_result

Run = Callable[..., dict[str, Any]]
Command = Callable[..., tuple[int, str, str]]
MakeRun = Callable[..., Path]


@pytest.fixture(scope="session")
def run() -> Run:
    """``run(folder, *overrides)``: a run on digits_lt, 3 epochs of 5 steps unless overridden; returns its result.
    It draws nothing unless told ``draw=True``."""

    def run(folder: Path, *overrides: str, draw: bool = False) -> dict[str, Any]:
        overrides = ("trainer.accelerator=cpu", "trainer.max_epochs=3", *overrides)
        composed = compose_checked("train", overrides)
        with nullcontext() if draw else without_plots():
            return run_module.run(run_module.config_of_run(composed, composed.hydra), folder)

    return run


@pytest.fixture(scope="session")
def resume() -> Run:
    """``resume(folder, *overrides)``: go on with the run in ``folder`` without drawing; returns its result."""

    def resume(folder: Path, *overrides: str) -> dict[str, Any]:
        with without_plots():
            return run_module.run(resumed_config(folder, overrides), folder)

    return resume


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """``command("train", *words)``: ``python -m carlt.train *words`` in this process; returns its exit code, and its
    output and errors."""

    def run(name: str, *words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [f"carlt.{name}", *map(str, words)])
        code = 0
        try:
            importlib.import_module(f"carlt.commands.{name}").main()
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def load_script() -> Callable[[Path], ModuleType]:
    """``load_script(path)``: a script outside of the package as a module."""

    def load(path: Path) -> ModuleType:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def pretended_gpu() -> None:
    """Skips where torch asks for a driver as soon as a tensor that only says it is on a GPU is indexed."""
    with FakeTensorMode():
        try:
            torch.zeros(1, device="cuda")[None]
        except RuntimeError as error:
            pytest.skip(f"torch {torch.__version__} cannot pretend to have a GPU: {str(error).splitlines()[0]}")


@contextmanager
def without_plots() -> Iterator[None]:
    """Runs draw nothing here: that would take most of their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "draw_run", lambda run_dir: {})
        yield


@pytest.fixture
def no_plots() -> Iterator[None]:
    """Commands of a test draw nothing."""
    with without_plots():
        yield


@pytest.fixture(scope="session")
def finished(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of three epochs; tests read it and leave it as it is."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(folder, "reg=car", draw=True)
    return folder


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """``make_run(name, seed, accuracy, reg, ...)``: the folder ``tmp_path / name`` of a finished run."""
    return _maker(tmp_path)


@pytest.fixture(scope="session")
def make_runs_in() -> Callable[[Path], MakeRun]:
    """``make_runs_in(folder)``: as ``make_run``, with folders in ``folder``."""
    return _maker


def _maker(root: Path) -> MakeRun:

    def make(
        name: str,
        seed: int = 0,
        accuracy: float | None = 0.5,
        reg: str = "none",
        *,
        classes: int = 3,
        class_names: list[str] | None = None,
        data: str = "ponds",
        sha: str = "0" * 64,
        factor: float | None = 10,
        best: dict[str, Any] | None = None,
        calibration: bool = True,
        metrics: dict[str, Any] | None = None,
        config: dict[str, Any] | None = None,
        run_hash_of_result: str | None = None,
        **values: Any,
    ) -> Path:
        folder = root / name
        folder.mkdir(parents=True)
        written = {
            "seed": seed,
            "choices": {"reg": reg, "loss": "ce"},
            "reg": {"_target_": reg, **values},
            "data": {"root": str(folder)} | ({} if factor is None else {"imbalance_factor": factor}),
            "callbacks": {"x": str(folder)},
            **(config or {}),
        }
        (folder / paths.CONFIG).write_text(yaml.safe_dump(written))
        counts = np.geomspace(200, 2, classes).astype(int).tolist()
        right = [round(10 * (accuracy or 0) * (1 - c / classes / 2)) for c in range(classes)]
        names = class_names or [f"class {c}" for c in range(classes)]
        write_per_class(folder, names, counts, [10] * classes, right)
        true = np.repeat(np.arange(classes), 2)
        predicted = np.stack([np.arange(classes), np.zeros(classes, dtype=int)], 1).flatten()
        count = np.array([n for k in right for n in (k, 10 - k)])
        write_confusion(folder, true[count > 0], predicted[count > 0], count[count > 0], classes)
        rows = ["epoch,step,train/loss,train_batches/worst_class,car/ema_gap", "0,5,2.5,0.1,", "1,10,1.5,0.2,0.7"]
        (folder / paths.METRICS).write_text("\n".join(rows) + "\n")
        bins = {"images": [4, 0, 6], "confidence": [0.2, None, 0.9], "accuracy": [0.25, None, 0.5]}
        result = {
            "schema": 1,
            "seed": seed,
            "epochs": 2,
            "num_classes": classes,
            "class_counts": counts,
            "data": {"name": data, "sha256": sha},
            "metrics": {column.metric: accuracy for column in COLUMNS} | (metrics or {}),
            "best": None if best is None else {"epoch": 0} | best,
        } | ({"run_hash": run_hash_of_result} if run_hash_of_result else {})
        write_result(folder, result | ({"calibration": {"test": bins, "train": bins}} if calibration else {}))
        return folder

    return make
