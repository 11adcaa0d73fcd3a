"""``trainer=ddp`` from the command line, on two CPU processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from carlt.evaluation.evaluate import evaluate, load_config
from carlt.runs import paths
from carlt.runs.record import read_result
from carlt.training.callbacks import read_rows

pytestmark = pytest.mark.slow  # six commands of two processes

DDP = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "trainer.max_epochs=3", "aug=cutmix")
COMMAND = (sys.executable, "-m", "carlt.train")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ddp") / "run"
    train(folder.parent, *DDP, f"hydra.run.dir={folder}")
    return folder


def train(cwd: Path, *overrides: str) -> None:
    done = subprocess.run([*COMMAND, *overrides], cwd=cwd, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(paths.checkpoint(folder, "last"), weights_only=True)["state_dict"]


def rows(folder: Path) -> list[dict[str, float]]:
    found = read_rows(folder / paths.METRICS)
    return [{name: value for name, value in row.items() if name != "car/time_share"} for row in found]


def test_two_processes_share_one_run_folder(uninterrupted: Path) -> None:
    assert [path.name for path in uninterrupted.parent.iterdir()] == ["run"]
    result = read_result(uninterrupted)
    assert result["hardware"]["devices"] == 2
    assert result["data"]["images"]["test"] == 500  # each image once, over both processes


def test_evaluated_by_one_process_it_is_the_same(uninterrupted: Path) -> None:
    """Splits are sharded without padding: the metrics do not depend on the number of processes."""
    config = load_config(uninterrupted)
    config.trainer.devices, config.trainer.strategy = 1, "auto"
    OmegaConf.save(config, uninterrupted / paths.CONFIG)
    metrics = evaluate(uninterrupted)["metrics"]
    recorded = read_result(uninterrupted)["metrics"]
    for name in ("test/accuracy", "test/worst_class", "test/few"):
        assert metrics[name] == recorded[name]


def test_killed_and_resumed_it_ends_the_same(uninterrupted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    overrides = (*DDP, f"hydra.run.dir={folder}", "callbacks.checkpoints.every_n_steps=1")
    process = subprocess.Popen([*COMMAND, *overrides], cwd=tmp_path, start_new_session=True)
    while not paths.checkpoint(folder, "last").exists() and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    train(tmp_path, f"resume={folder}")
    resumed = weights(folder)
    for name, tensor in weights(uninterrupted).items():
        assert torch.equal(tensor, resumed[name]), name
    assert rows(folder) == rows(uninterrupted)


def test_each_job_of_a_sweep_has_its_own_processes(tmp_path: Path) -> None:
    train(tmp_path, "-m", *DDP[:-2], "trainer.max_epochs=1", "seed=0,1", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    results = sorted((tmp_path / "sweep").glob("*/" + paths.RESULT))
    assert [read_result(path.parent)["seed"] for path in results] == [0, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["sweep"]


def test_paco_s_queue_has_the_keys_of_all_processes(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(tmp_path, *DDP[:-2], "trainer.max_epochs=1", "loss=paco", "loss.queue=1000", f"hydra.run.dir={folder}")
    labels = weights(folder)["loss.queue_labels"]
    assert labels[labels >= 0].bincount().tolist() == read_result(folder)["class_counts"]  # each image once
