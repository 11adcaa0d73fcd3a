"""Run folders with broken files, however they are opened: one line, exit code 2, at once, and nothing of them runs."""

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from carlt.errors import CarltError
from carlt.evaluation.evaluate import evaluate, evaluate_posthoc
from carlt.evaluation.load import load_run
from carlt.runs import archives, paths
from carlt.runs.reading import read_runs
from carlt.training.callbacks import read_checkpoint

Checkpoint = dict[str, Any]


@pytest.fixture
def broken(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run for a test to break."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def text_weight(checkpoint: Checkpoint) -> None:
    checkpoint["state_dict"]["model.classifier.weight"] = "text"


def other_weight(checkpoint: Checkpoint) -> None:
    checkpoint["state_dict"]["model.classifier.weight"] = torch.ones(3, 3)


WEIGHTS: dict[str, Callable[[Checkpoint], Any]] = {
    "no state_dict": lambda c: c.pop("state_dict"),
    "state_dict is null": lambda c: c.update(state_dict=None),
    "state_dict is a list": lambda c: c.update(state_dict=[1]),
    "an entry more": lambda c: c["state_dict"].update({"model.more": torch.ones(2)}),
    "an entry less": lambda c: c["state_dict"].pop("model.classifier.weight"),
    "a text as weight": text_weight,
    "a weight of another shape": other_weight,
    "a sparse weight": lambda c: c["state_dict"].update(mean=torch.ones(1, 1, 1).to_sparse()),
    "a complex weight": lambda c: c["state_dict"].update(mean=torch.ones(1, 1, 1) * 1j),
    "epoch is a text": lambda c: c.update(epoch="x"),
    "epoch is negative": lambda c: c.update(epoch=-1),
    "epoch is a number of 30 digits": lambda c: c.update(epoch=10**30),
    "version is null": lambda c: c.update({"pytorch-lightning_version": None}),
    "version is a text": lambda c: c.update({"pytorch-lightning_version": "newest"}),
}
"""What every entry meets."""


def no_processed(checkpoint: Checkpoint) -> None:
    del checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]


def many_processed(checkpoint: Checkpoint) -> None:
    checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] = 10**30


def adam(checkpoint: Checkpoint) -> None:
    parameter = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()
    checkpoint["optimizer_states"] = [optimizer.state_dict()]


def groups_of_adam(checkpoint: Checkpoint) -> None:
    for group in checkpoint["optimizer_states"][0]["param_groups"]:
        del group["momentum"]


def buffers_become(value: Any) -> Callable[[Checkpoint], None]:
    def change(checkpoint: Checkpoint) -> None:
        for state in checkpoint["optimizer_states"][0]["state"].values():
            state["momentum_buffer"] = value

    return change


def momenta(convert: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Checkpoint], None]:
    def change(checkpoint: Checkpoint) -> None:
        for state in checkpoint["optimizer_states"][0]["state"].values():
            state["momentum_buffer"] = convert(state["momentum_buffer"])

    return change


TRAINING: dict[str, Callable[[Checkpoint], Any]] = {
    "no loops": lambda c: c.pop("loops"),
    "loops are a text": lambda c: c.update(loops="x"),
    "no finished epochs": no_processed,
    "10^30 finished epochs": many_processed,
    "a count of steps is a text": lambda c: c["loops"]["fit_loop"]["epoch_loop.scheduler_progress"]["total"].update(
        ready="x"
    ),
    "batches are a text": lambda c: c["loops"]["fit_loop"].update({"epoch_loop.batch_progress": "x"}),
    "no optimizer": lambda c: c.pop("optimizer_states"),
    "no optimizer in the list": lambda c: c.update(optimizer_states=[]),
    "an optimizer of other parameters": adam,
    "groups of another optimizer": groups_of_adam,
    "an optimizer without its momenta": lambda c: c["optimizer_states"][0].update(state={}),
    "momenta are texts": buffers_become("x"),
    "momenta of another shape": buffers_become(torch.ones(7)),
    "momenta that are one number in memory": momenta(lambda value: torch.zeros(1).expand(value.shape)),
    "nesterov is a tensor": lambda c: c["optimizer_states"][0]["param_groups"][0].update(nesterov=torch.ones(3)),
    "momenta are numbers": buffers_become(1),
    "lr is a text": lambda c: c["optimizer_states"][0]["param_groups"][0].update(lr="x"),
    "lr of the schedule is no list": lambda c: c["lr_schedulers"][0].update(base_lrs=10**30),
    "a method of the schedule is a text": lambda c: c["lr_schedulers"][0].update(step="x"),
    "step of the schedule is a text": lambda c: c["lr_schedulers"][0].update(last_epoch="x"),
    "best value is a list": lambda c: c["callbacks"]["Checkpoints"].update(best_value=[]),
    "counts of other classes": lambda c: c.update({"carlt/train_batches": torch.zeros(2, 3, dtype=torch.int64)}),
    "counts that are one number in memory": lambda c: c.update(
        {"carlt/train_batches": torch.zeros(1, 1, dtype=torch.int64).expand(2, 10**10)}
    ),
    "shares of another shape": lambda c: c.update({"carlt/gradient_shares": torch.zeros(1)}),
    "time of training is a text": lambda c: c["callbacks"]["TrainingTime"]["time_elapsed"].update(train="x"),
    "times are a text": lambda c: c["callbacks"]["TrainingTime"].update(time_elapsed="x"),
    "no schedule": lambda c: c.pop("lr_schedulers"),
    "schedule is a text": lambda c: c.update(lr_schedulers=["x"]),
    "callbacks are a text": lambda c: c.update(callbacks="x"),
}
"""What only resume meets."""


def change_checkpoint(folder: Path, change: Callable[[Checkpoint], Any]) -> None:
    path = paths.checkpoint(folder, "last")
    checkpoint = torch.load(path, weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, path)


@pytest.mark.parametrize("damage", WEIGHTS)
def test_weights_that_are_not_those_of_the_run(damage: str, broken: Path, resume) -> None:
    change_checkpoint(broken, WEIGHTS[damage])
    for entry in (evaluate, load_run, lambda folder: resume(folder, "trainer.max_epochs=4")):
        with pytest.raises(CarltError, match=r"last\.ckpt (is damaged|does not fit)") as error:
            entry(broken)
        assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("damage", TRAINING)
def test_a_training_state_that_is_not_that_of_the_run(damage: str, broken: Path, resume) -> None:
    change_checkpoint(broken, TRAINING[damage])
    files = {path: path.read_bytes() for path in broken.rglob("*") if path.is_file()}
    with pytest.raises(CarltError, match=r"last\.ckpt|has trained") as error:
        resume(broken, "trainer.max_epochs=4")
    assert len(str(error.value).splitlines()) == 1
    assert {path: path.read_bytes() for path in files} == files


def test_a_file_that_unpacks_to_more_than_it_holds(broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(paths.checkpoint(broken, "last"), "a", zipfile.ZIP_DEFLATED) as parts:
        parts.writestr("bomb", bytes(1 << 24))
    with pytest.raises(CarltError, match="unpacks to 16 MiB"):
        read_checkpoint(paths.checkpoint(broken, "last"))
    monkeypatch.setattr(archives, "MAX_BYTES", 1 << 20)
    np.savez_compressed(broken / paths.CONFUSION, true=np.zeros(1 << 18), predicted=[0], count=[0])
    with pytest.raises(CarltError, match=r"confusion\.npz is damaged: it unpacks to more than 1 MiB"):
        read_runs([broken])


@pytest.mark.parametrize("name", [paths.CONFIG, paths.RESULT, paths.PER_CLASS, paths.CONFUSION, paths.METRICS])
def test_a_file_that_never_ends_is_not_read(name: str, broken: Path) -> None:
    (broken / name).unlink()
    os.mkfifo(broken / name)
    for entry in (load_run, lambda folder: read_runs([folder])):
        with pytest.raises(CarltError, match=r"no regular file|is no run folder"):
            entry(broken)
    with pytest.raises(CarltError, match=r"no regular file|is no run folder"):
        evaluate_posthoc(broken, "car", 1.0)
    if name == paths.PER_CLASS:
        with pytest.raises(CarltError, match=r"per_class\.csv.*no regular file"):
            evaluate(broken)


@pytest.mark.parametrize("content", ["", "[]", "3", "[" * 100_000, '{"data": 3}', "\0"])
def test_a_result_that_is_none(content: str, broken: Path) -> None:
    (broken / paths.RESULT).write_text(content)
    for entry in (evaluate, load_run, lambda folder: evaluate_posthoc(folder, "tau_norm", 1.0)):
        with pytest.raises(CarltError, match=r"result\.json"):
            entry(broken)


@pytest.mark.parametrize("name", [paths.PER_CLASS, paths.METRICS, paths.CONFUSION])
def test_a_missing_record(name: str, broken: Path) -> None:
    (broken / name).unlink()
    for entry in (load_run, lambda folder: evaluate_posthoc(folder, "tau_norm", 1.0)):
        with pytest.raises(CarltError, match=f"run={broken}: no {name}; give the folder of a finished run"):
            entry(broken)


def test_a_record_of_another_run_is_not_taken(broken: Path) -> None:
    result = json.loads((broken / paths.RESULT).read_text())
    (broken / paths.RESULT).write_text(json.dumps(result | {"run_hash": "0" * 64}))
    with pytest.raises(CarltError, match="are of different runs"):
        load_run(broken)


@pytest.mark.parametrize(
    ("content", "reason"),
    [("foo,bar\n1,2\n", "no column epoch"), ("epoch\n0,7,8\n", ""), ("epoch\nx\n", "a cell is no number")],
)
def test_a_damaged_table_of_epochs_is_not_blamed_on_the_checkpoint(
    content: str, reason: str, broken: Path, resume
) -> None:
    (broken / paths.METRICS).write_text(content)
    with pytest.raises(CarltError, match=rf"metrics\.csv is damaged.*{reason}.*restore it, or remove it"):
        resume(broken, "trainer.max_epochs=4")


def test_a_table_that_never_ends_is_not_waited_for(broken: Path, resume) -> None:
    (broken / paths.METRICS).unlink()
    os.mkfifo(broken / paths.METRICS)
    with pytest.raises(CarltError, match=r"metrics\.csv is no regular file"):
        resume(broken, "trainer.max_epochs=4")


def test_a_record_as_large_as_memory_is_not_read(broken: Path) -> None:
    with open(broken / paths.RESULT, "r+b") as file:
        file.truncate(1 << 40)  # of zeros that take no place
    with pytest.raises(CarltError, match=r"result\.json is larger than 64 MiB"):
        evaluate_posthoc(broken, "car", 1.0)
