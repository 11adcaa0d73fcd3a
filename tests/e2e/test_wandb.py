"""A sweep in a process of its own with every logger, and what its W&B run holds, read back from its offline folder;
nothing here asks the service."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from carlt.config.compose import conf_dir
from carlt.runs import paths
from carlt.runs.record import read_per_class, read_result
from carlt.training.callbacks import read_rows

SHORT = ("trainer.accelerator=cpu", "logger=wandb", "callbacks.checkpoints.every_n_steps=3")
SWEEP = ("-m", "logger=[csv,wandb,tensorboard]", "trainer.accelerator=cpu", "callbacks.checkpoints.every_n_steps=3",
         "trainer.max_epochs=3", "reg.weight=0.3", "reg.max_skipped=2", "optim.lr=0.05,1e30")  # fmt: skip
CURVES = ("train/loss", "val/worst_class", "val/few", "train_batches/worst_class", "train_batches/many", "car/ema_gap",
          "car/spectral_norm")  # fmt: skip


def environment(home: Path, **more: str) -> dict[str, str]:
    """No login, no network, and something to keep."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "PYTEST"))}
    return {**clean, "HOME": str(home), "PRIVATE_TOKEN": "sekret", **more}


def call(home: Path, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, cwd=home, env=environment(home, **more), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert "wandb:" not in done.stdout + done.stderr
    return done


def records(content: bytes) -> Iterator[Any]:
    """The records of a .wandb file: protobufs in a log of LevelDB, split where a block ends."""
    from wandb.proto import wandb_internal_pb2

    block, head, at, parts = 32768, 7, 7, b""
    while at + head <= len(content):
        if (left := block - at % block) < head:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        parts += content[at + head : at + head + length]
        at += head + length
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(parts)
            parts = b""


def read_back(offline: Path) -> dict[str, Any]:
    """An offline folder as ``run``, ``config``, ``history``, ``summary``, ``files`` and ``exit_code``."""
    (path,) = offline.glob("*.wandb")
    found: dict[str, Any] = {"config": {}, "summary": {}, "history": [], "files": []}
    for record in records(path.read_bytes()):
        kind = record.WhichOneof("record_type")
        content = getattr(record, kind)
        if kind in ("config", "summary"):
            found[kind].update(values(content.update))
        elif kind == "run":
            found["run"] = content
            found["config"].update(values(content.config.update))
        elif kind == "history":
            found["history"].append(values(content.item))
        elif kind == "files":
            found["files"] += [file.path for file in content.files]
        elif kind == "exit":
            found["exit_code"] = content.exit_code
    return found


def values(items: Iterable[Any]) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with something to keep."""
    home = tmp_path_factory.mktemp("wandb")
    (home / "notes.txt").write_text("a")
    for words in (
        ("init", "-q", "."),
        ("remote", "add", "origin", "https://me:sekret@example.com/of/mine.git"),
        ("add", "notes.txt"),
        ("-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-qm", "first"),
    ):
        assert call(home, "git", *words).returncode == 0
    (home / "notes.txt").write_text("sekret")
    return home


@pytest.fixture(scope="module")
def done(home: Path) -> subprocess.CompletedProcess[str]:
    """A sweep over two learning rates; at the second, training diverges."""
    return call(home, sys.executable, "-m", "carlt.train", *SWEEP)


@pytest.fixture(scope="module")
def sweep(home: Path, done: subprocess.CompletedProcess[str]) -> Path:
    """The run folder of the job that finished."""
    (result,) = home.glob("runs/sweeps/*/*/result.json")
    return result.parent


@pytest.fixture(scope="module")
def offline(sweep: Path) -> dict[str, Any]:
    (folder,) = sweep.glob("wandb/offline-run-*")
    return read_back(folder)


def test_a_failed_job_leaves_the_other_alone(done: subprocess.CompletedProcess[str], sweep: Path) -> None:
    assert done.returncode == 1
    assert done.stderr.count("error in") == 1
    assert "error in job 2 (optim.lr=1e+30): " in done.stderr
    assert "training has diverged" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Sweep: 1 of 2 jobs finished" in done.stdout
    assert f"Run folder: {sweep}" in done.stdout
    assert all(word in done.stdout for word in ("overall", "many", "medium", "few", "worst class", "Worst test class"))


def test_each_job_is_a_wandb_run_of_its_own(home: Path, sweep: Path) -> None:
    jobs = [path.parent for path in home.glob("runs/sweeps/*/*/wandb_id")]
    identities = [(job / "wandb_id").read_text() for job in jobs]
    assert len(set(identities)) == 2
    for job, identity in zip(jobs, identities, strict=True):
        (run,) = (job / "wandb").glob("offline-run-*")
        assert run.name.endswith(identity)
        assert list(run.glob("*.wandb"))


def test_the_other_loggers_have_their_files(sweep: Path) -> None:
    assert list(sweep.glob("tensorboard/events.out.tfevents.*"))
    assert (sweep / paths.METRICS).exists()


def test_a_run_is_grouped_tagged_and_named(sweep: Path, offline: dict[str, Any]) -> None:
    run = offline["run"]
    assert (run.project, run.display_name) == ("carlt", sweep.name)
    assert run.run_id == (sweep / "wandb_id").read_text()
    assert run.run_group == "digits_lt_small_cnn_standard_ce_car_instance"
    assert {"data=digits_lt", "reg=car", f"sweep={sweep.parent.name}"} <= set(run.tags)
    assert offline["exit_code"] == 0


def test_the_config_is_flat(sweep: Path, offline: dict[str, Any]) -> None:
    config = offline["config"]
    expected = {
        "seed": 0,
        "reg": "car",
        "reg/weight": 0.3,
        "reg/beta": 0.5,
        "trainer/max_epochs": 3,
        "sweep": sweep.parent.name,
    }
    expected["sweep"] = sweep.parent.name
    assert {name: config[name] for name in expected} == expected
    assert config["run_hash"] == read_result(sweep)["run_hash"]
    assert not any(isinstance(value, dict) for name, value in config.items() if name != "_wandb")


def test_curves_of_groups_worst_class_and_car(sweep: Path, offline: dict[str, Any]) -> None:
    rows = read_rows(sweep / paths.METRICS)
    epochs = [item for item in offline["history"] if "train/loss" in item]
    assert len(epochs) == len(rows) == 3
    for name in CURVES:
        assert [item[name] for item in epochs if item[name] == item[name]] == pytest.approx(
            [row[name] for row in rows if name in row]
        ), name
    assert [item["_step"] for item in offline["history"]] == sorted(item["_step"] for item in offline["history"])


def test_the_summary_is_the_result(sweep: Path, offline: dict[str, Any]) -> None:
    metrics = {name: value for name, value in read_result(sweep)["metrics"].items() if value is not None}
    assert {"test/worst_class", "test/accuracy", "val/worst_class", "train/ece", "car/spectral_norm"} <= metrics.keys()
    for name, value in metrics.items():
        shown = name.replace("train/", "train_evaluation/")
        assert offline["summary"][shown] == pytest.approx(value), name


def test_the_curve_over_the_classes_is_the_table(sweep: Path, offline: dict[str, Any]) -> None:
    rows = sorted(read_per_class(sweep), key=lambda row: -row.train_count)
    points = [item for item in offline["history"] if "classes/rank" in item]
    assert [(p["classes/rank"], p["classes/training_images"], p["classes/test_accuracy"]) for p in points] == [
        (k + 1, row.train_count, pytest.approx(row.accuracy)) for k, row in enumerate(rows)
    ]


def test_learning_rate_and_speed_have_curves(offline: dict[str, Any]) -> None:
    points = [item for item in offline["history"] if "train/learning_rate" in item]
    assert len(points) == 3
    assert all(item["train/images_per_s"] > 0 and "train/loss" in item for item in points)


def test_the_table_has_a_row_a_class(sweep: Path, offline: dict[str, Any]) -> None:
    (path,) = [path for path in offline["files"] if path.startswith("media/table/per_class")]
    (folder,) = sweep.glob("wandb/offline-run-*")
    table = json.loads((folder / "files" / path).read_text())
    classes = read_per_class(sweep)
    assert table["columns"] == list(classes[0]._fields)
    assert [row[1] for row in table["data"]] == [row.class_name for row in classes]
    for column, name in ((0, "class_id"), (2, "train_count"), (4, "test_count"), (5, "correct"), (6, "accuracy")):
        assert [row[column] for row in table["data"]] == [getattr(row, name) for row in classes]


def test_every_plot_is_a_picture(sweep: Path, offline: dict[str, Any]) -> None:
    (folder,) = sweep.glob("wandb/offline-run-*")
    drawn = {path.stem: path.read_bytes() for path in (sweep / "plots").glob("*.png")}
    assert "confusion" in drawn
    for name, content in drawn.items():
        (path,) = [path for path in offline["files"] if path.startswith(f"media/images/plots/{name}_")]
        assert (folder / "files" / path).read_bytes() == content, name
        assert any(item.get(f"plots/{name}.path") == path for item in offline["history"]), name


def test_nothing_secret_is_logged(sweep: Path) -> None:
    (folder,) = sweep.glob("wandb/offline-run-*")
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert not [path for path in files if b"sekret" in path.read_bytes().lower()]


@pytest.mark.slow
def test_an_interrupted_run_goes_on_in_its_wandb_run(tmp_path: Path) -> None:
    stop = "import os, signal, sys; from carlt.commands import train; from carlt.training.callbacks import Progress; "
    stop += (
        "Progress.on_train_batch_end = lambda s, t, *a: t.global_step == 7 and os.kill(os.getpid(), signal.SIGTERM); "
    )
    command = [*SHORT, "trainer.max_epochs=3", "hydra.run.dir=run"]
    program = stop + f"sys.argv = ['train', *{command}]; train.main()"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment(tmp_path), capture_output=True)
    assert done.returncode == 143, done.stderr
    assert call(tmp_path, sys.executable, "-m", "carlt.train", "resume=run").returncode == 0
    first, second = map(read_back, sorted(tmp_path.glob("run/wandb/offline-run-*")))
    assert first["run"].run_id == second["run"].run_id
    assert (first["exit_code"], second["exit_code"]) == (1, 0)
    parts = [[item["_step"] for item in part["history"] if "train/loss" in item] for part in (first, second)]
    assert parts == [[4], [9, 14]]  # W&B's steps go on: both parts together are the whole run


@pytest.mark.slow
def test_a_wandb_agent_can_start_a_run(tmp_path: Path) -> None:
    # What `wandb agent` does with the command that the service sends it: wandb/wandb_agent.py, Agent._command_run.
    from wandb.sdk.launch.sweeps import utils

    sweep = yaml.safe_load((conf_dir() / "wandb_sweep.yaml").read_text())
    drawn = {"data": "digits_lt", "reg.weight": 0.25, "seed": 2}
    assert drawn.keys() == sweep["parameters"].keys()
    drawn |= {"trainer.max_epochs": 1, "trainer.accelerator": "cpu"}  # only for this test
    arguments = {name: {"value": value} for name, value in drawn.items()}
    macros = utils.create_sweep_command_args({"args": arguments})
    pieces = utils.create_sweep_command(sweep["command"])
    command = [word for piece in pieces for word in (macros[piece[2:-1]] if piece.startswith("${") else [piece])]
    parameters = tmp_path / "wandb" / "sweep-s1" / "config-r1.yaml"
    parameters.parent.mkdir(parents=True)
    parameters.write_text(yaml.safe_dump({"wandb_version": 1, **arguments}))
    done = call(
        tmp_path, sys.executable, *command[1:], WANDB_SWEEP_ID="s1", WANDB_RUN_ID="r1",
        WANDB_SWEEP_PARAM_PATH=str(parameters),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.glob("runs/digits_lt/*/wandb/offline-run-*-r1")
    found = read_back(folder)
    assert found["config"]["reg/weight"] == found["config"]["reg.weight"] == 0.25
    assert found["config"]["seed"] == 2
    assert sweep["metric"]["name"] in found["summary"]
