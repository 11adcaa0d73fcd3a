"""Sweeps through the whole command: stopped and finished, failing, searching, on every launcher."""

import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from carlt.commands import train
from carlt.data import LongTailDataModule
from carlt.reporting import plots
from carlt.runs import paths, provenance
from carlt.runs.record import read_result
from carlt.training.callbacks import Progress

SHORT = ("trainer.accelerator=cpu", "trainer.max_epochs=2", "reg=none")
Command = Callable[..., int]


def train_here(home: Path, *overrides: str) -> int:
    """``carlt.train -m`` in this process, with ``home`` as the working folder; returns the exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setattr(plots, "draw_run", lambda run_dir: {})
        patch.setattr(sys, "argv", ["carlt.train", "-m", *SHORT, *overrides])
        with pytest.raises(SystemExit) as end:
            train.main()
    return int(end.value.code or 0)


@pytest.fixture
def sweep(tmp_path: Path) -> Command:
    """``sweep(*overrides)`` in a folder of its own."""
    return functools.partial(train_here, tmp_path)


@pytest.fixture(scope="module")
def one_job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished sweep over one seed."""
    home = tmp_path_factory.mktemp("one_job")
    assert train_here(home, "seed=0") == 0
    return home


@pytest.fixture
def copied(one_job: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    shutil.copytree(one_job / "runs", tmp_path / "runs")
    return tmp_path


def results(home: Path) -> dict[str, dict[str, Any]]:
    return {path.parent.name: read_result(path.parent) for path in sorted(home.glob("runs/sweeps/*/*/result.json"))}


def written(home: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in home.glob("runs/sweeps/*/*/result.json")}


def numbers(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result["metrics"].items() if name != "car/time_share"}


def test_a_stopped_sweep_is_finished_by_the_same_command(sweep: Command, tmp_path: Path, capsys: Any) -> None:
    epochs = 0

    def stop_in_the_second_job(callback: Progress, *_: Any) -> None:
        nonlocal epochs
        epochs += 1
        if epochs == 3:  # the first of the second job
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "on_train_epoch_end", stop_in_the_second_job)
        assert sweep("seed=0,1") == 143
    assert "Sweep: 1 of 2 jobs finished" in capsys.readouterr().out
    before = written(tmp_path)
    assert len(before) == 1

    assert sweep("seed=0,1", "data.num_workers=0") == 0  # what changes no number may change
    output = capsys.readouterr().out
    assert "job 1 of 2 (seed=0): finished before, in " in output
    assert "job 2 of 2 (seed=1): goes on where it was interrupted" in output
    assert "| all runs | 2 |" in output
    assert "Sweep: 2 of 2 jobs finished, 1 of them before." in output
    assert "These jobs took about " in output
    assert f"Next: python -m carlt.report {next(tmp_path.glob('runs/sweeps/*'))}\n" in output
    assert before.items() <= written(tmp_path).items()
    assert len(results(tmp_path)) == len(list(tmp_path.glob("runs/sweeps/*/[0-9]*"))) == 2
    first, second = results(tmp_path).values()
    assert (first["seed"], second["seed"]) == (0, 1)
    assert first["metrics"]["train/ece"] != second["metrics"]["train/ece"]

    # And as if nothing had happened.
    assert sweep("seed=1", "hydra.sweep.dir=whole") == 0
    (whole,) = tmp_path.glob("whole/*/result.json")
    assert numbers(list(results(tmp_path).values())[1]) == pytest.approx(
        numbers(read_result(whole.parent)), nan_ok=True, abs=0
    )


@pytest.mark.slow
def test_finished_jobs_are_found_under_another_number(copied: Path, sweep: Command, capsys: Any) -> None:
    (folder,) = copied.glob("runs/sweeps/*")
    assert sweep("seed=1,0", f"hydra.sweep.dir={folder}") == 0
    output = capsys.readouterr().out
    assert "job 2 of 2 (seed=0): finished before, in " in output
    assert "| all runs | 2 |" in output


def test_other_values_and_other_data_are_another_job(
    copied: Path, sweep: Command, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (folder,) = copied.glob("runs/sweeps/*")
    assert sweep("seed=0", "optim.lr=0.05", f"hydra.sweep.dir={folder}") == 0
    monkeypatch.setattr(LongTailDataModule, "checksum", lambda self: "changed")
    assert sweep("seed=0") == 0
    assert "finished before" not in capsys.readouterr().out
    assert len(results(copied)) == 3


def test_a_run_gone_on_with_under_other_values_is_not_the_job(
    copied: Path, sweep: Command, resume: Any, no_plots: None, capsys: Any
) -> None:
    (result,) = copied.glob("runs/sweeps/*/*/result.json")
    resume(result.parent, "trainer.max_epochs=3")
    assert sweep("seed=0") == 1
    assert "was resumed with other values; move it away" in capsys.readouterr().out


def test_a_record_that_is_damaged_is_no_finished_job(copied: Path, sweep: Command, capsys: Any) -> None:
    (result,) = copied.glob("runs/sweeps/*/*/result.json")
    result.write_text('{"metrics": {"val/few": 1.0}}')
    assert sweep("seed=0") == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "failed" in line]
    assert f"{result.parent}: result.json lacks seed, num_classes" in line
    assert line.endswith("; move it away, and this job starts anew")


@pytest.mark.slow
def test_jobs_without_a_logger_run(sweep: Command, tmp_path: Path) -> None:
    assert sweep("seed=0", "logger=[]", "trainer.max_epochs=1") == 0
    assert len(results(tmp_path)) == 1


@pytest.mark.slow
def test_another_commit_is_told(copied: Path, sweep: Command, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(provenance, "commit", lambda: "abcdef0123")
    assert sweep("seed=0") == 0
    assert "(now abcdef0), in " in capsys.readouterr().out


def test_any_failure_is_a_line_and_the_others_finish(
    sweep: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    run = train.run

    def fail(config: Any, *rest: Any, **others: Any) -> dict[str, Any]:
        if config.seed == 0:
            raise RuntimeError("CUDA out of memory\nmuch more")
        return run(config, *rest, **others)

    monkeypatch.setattr(train, "run", fail)
    assert sweep("seed=0,1") == 1
    shown = capsys.readouterr()
    assert "Traceback" not in shown.out + shown.err
    (line,) = [line for line in shown.out.splitlines() if "failed" in line]
    assert line.startswith("  job 1 (seed=0) failed: RuntimeError: CUDA out of memory (see 0_")
    (trace,) = tmp_path.glob("runs/sweeps/*/0_*/error.txt")
    assert "much more" in trace.read_text()
    assert [result["seed"] for result in results(tmp_path).values()] == [1]

    monkeypatch.setattr(train, "run", run)
    assert sweep("seed=0,1") == 0
    assert "Sweep: 2 of 2 jobs finished, 1 of them before." in capsys.readouterr().out
    assert not trace.exists()


# The sweeper needs optuna 2, which is as old as what it warns of.
@pytest.mark.filterwarnings("ignore")
def test_a_search_maximises_validation_and_its_command_finishes_it(sweep: Command, tmp_path: Path, capsys: Any) -> None:
    search = ("sweep=optuna", "optim.lr=tag(log,interval(1e-4,1))", "objective=val/balanced_accuracy")
    assert sweep(*search, "hydra.sweeper.n_trials=1") == 0
    assert sweep(*search, "hydra.sweeper.n_trials=3") == 0
    output = capsys.readouterr().out
    assert output.count("finished before") == 1
    found = results(tmp_path)
    assert len(found) == 3
    best = max(result["metrics"]["val/balanced_accuracy"] for result in found.values())
    assert f"Best value: {best}" in output
    assert " minus " not in output


def train_many(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "carlt.train", "-m", "trainer.accelerator=cpu", *arguments]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "slurm_local"])
def test_a_launcher_runs_jobs_side_by_side(launcher: str, tmp_path: Path) -> None:
    command = train_many("trainer.max_epochs=1", "seed=0,1,2", f"launcher={launcher}")
    for before in (0, 3):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert f"Sweep: 3 of 3 jobs finished, {before} of them before." in done.stdout
        assert "| all runs | 3 |" in done.stdout
    assert len(results(tmp_path)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "slurm_local"])
def test_a_failed_job_of_a_launcher_is_named(launcher: str, tmp_path: Path) -> None:
    bad = ("optim.lr=1e30,0.05", "reg.max_skipped=2")
    command = train_many("trainer.max_epochs=1", *bad, f"launcher={launcher}")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "Sweep: 1 of 2 jobs finished" in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("  job 1 (optim.lr=1e+30) failed: ")]
    assert "training has diverged" in line


@pytest.mark.slow
def test_a_killed_grid_of_weights_and_seeds(tmp_path: Path) -> None:
    command = train_many("trainer.max_epochs=3", "reg.weight=0.1,0.3,0.5,1", "seed=0,1,2")
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob("runs/sweeps/*/4_*/checkpoints/last.ckpt")) and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    before = written(tmp_path)
    assert 4 <= len(before) <= 5
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert f"Sweep: 12 of 12 jobs finished, {len(before)} of them before." in done.stdout
    assert before.items() <= written(tmp_path).items()
    assert len(written(tmp_path)) == 12
    assert all((path / paths.METRICS).exists() for path in tmp_path.glob("runs/sweeps/*/[0-9]*"))
