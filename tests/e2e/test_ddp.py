"""``trainer=ddp`` from the command line, on two CPU processes."""

import os
import shutil
import signal
import socket
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
    # Up to rounding: one process goes on with the sums of both.
    assert rows(folder) == [pytest.approx(row, rel=1e-5) for row in rows(uninterrupted)]


def test_it_goes_on_with_one_process_at_the_same_point_of_the_schedule(uninterrupted: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(uninterrupted, tmp_path / "run")
    train(tmp_path, f"resume={folder}", "trainer.devices=1", "trainer.max_epochs=4")
    (before,), (after,) = (
        torch.load(paths.checkpoint(place, "last"), weights_only=True)["lr_schedulers"]
        for place in (uninterrupted, folder)
    )
    assert (before["last_epoch"], after["last_epoch"]) == (3 * 3, 4 * 5)
    assert after["_last_lr"] == [pytest.approx(0, abs=1e-6)]  # the end of the cosine


def test_the_tasks_of_a_slurm_job_stop_together_and_the_job_goes_on(uninterrupted: Path, tmp_path: Path) -> None:
    stub = tmp_path / "bin" / "scontrol"
    stub.parent.mkdir()
    stub.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path / "asked"}\n')
    stub.chmod(0o755)
    words = {"JOB_ID": "1234", "JOB_NAME": "x", "NTASKS": "2", "NTASKS_PER_NODE": "2", "NODEID": "0", "NNODES": "1"}
    job = {f"SLURM_{name}": value for name, value in words.items()}
    job |= {"PATH": f"{stub.parent}:{os.environ['PATH']}", "MASTER_ADDR": "127.0.0.1"}

    def tasks(**more: str) -> list[subprocess.Popen]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        return [
            subprocess.Popen(
                [*COMMAND, *DDP, "callbacks.checkpoints.every_n_steps=1"],
                cwd=tmp_path,
                env={**os.environ, **job, "MASTER_PORT": port, "SLURM_PROCID": rank, "SLURM_LOCALID": rank, **more},
            )
            for rank in ("0", "1")
        ]

    started = tasks()
    while not list(tmp_path.glob("runs/digits_lt/*_1234_*/checkpoints/last.ckpt")) and started[0].poll() is None:
        time.sleep(0.02)
    for task in started:
        task.send_signal(signal.SIGUSR1)
    assert [task.wait(timeout=240) for task in started] == [143, 143]
    assert (tmp_path / "asked").read_text() == "requeue 1234\n"
    assert [task.wait(timeout=240) for task in tasks(SLURM_RESTART_COUNT="1")] == [0, 0]
    (folder,) = tmp_path.glob("runs/digits_lt/*")
    found = weights(folder)
    for name, tensor in weights(uninterrupted).items():
        assert torch.equal(tensor, found[name]), name


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
