import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from carlt.errors import CarltError
from carlt.runs import paths
from carlt.training.callbacks import AtomicCheckpointIO, Checkpoints, read_checkpoint, read_rows

CONTENT = {"state_dict": {"w": torch.ones(3)}, "epoch": 4, "pytorch-lightning_version": "2.6.0"}


def test_what_was_saved_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(CONTENT, path)
    assert torch.equal(read_checkpoint(path)["state_dict"]["w"], torch.ones(3))
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(CONTENT, path)

    def disk_full(content: object, file: object) -> None:
        file.write(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", disk_full)
    with pytest.raises(OSError, match="no space"):
        AtomicCheckpointIO().save_checkpoint(CONTENT, path)
    assert read_checkpoint(path)["epoch"] == 4


def test_a_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CarltError, match=f"no checkpoint at {tmp_path / 'x.ckpt'}"):
        read_checkpoint(tmp_path / "x.ckpt")


@pytest.mark.parametrize("content", [{"w": torch.ones(2)}, [1, 2], "text"])
def test_a_file_that_is_no_checkpoint(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(CarltError, match="damaged or no carlt checkpoint"):
        read_checkpoint(tmp_path / "x.ckpt")


@pytest.mark.parametrize("name", ["epoch", "pytorch-lightning_version"])
def test_a_value_of_endless_length_is_not_written_out(name: str, tmp_path: Path) -> None:
    value: list = []
    for _ in range(22):
        value = [value, value]
    torch.save({**CONTENT, name: value}, tmp_path / "x.ckpt")
    tracemalloc.start()
    with pytest.raises(CarltError, match="damaged or no carlt checkpoint"):
        read_checkpoint(tmp_path / "x.ckpt")
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()


def test_best_is_the_best_validation_epoch(finished: Path) -> None:

    values = [row["val/balanced_accuracy"] for row in read_rows(finished / paths.METRICS)]
    best = read_checkpoint(paths.checkpoint(finished, "best"))
    assert best["epoch"] == values.index(max(values))
    assert read_checkpoint(paths.checkpoint(finished, "last"))["epoch"] == len(values) - 1


@pytest.mark.parametrize("world_size", [1, 2])
def test_one_of_several_processes_saves_nothing_when_it_stops(world_size: int, tmp_path: Path) -> None:
    saved: list[Path] = []
    trainer = SimpleNamespace(
        world_size=world_size, validating=False, is_last_batch=False, save_checkpoint=lambda path: saved.append(path)
    )
    checkpoints = Checkpoints(tmp_path)
    checkpoints.begun = True
    checkpoints.on_exception(trainer, None, CarltError("a damaged image"))  # type: ignore[arg-type]
    assert [path.name for path in saved] == (["stopped.ckpt"] if world_size == 1 else [])


def test_an_unknown_monitor_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(CarltError, match=r"monitor=val/acc is not measured; choose from val/accuracy, "):
        Checkpoints(tmp_path, "val/acc")


def test_without_validation_there_is_no_best(run, tmp_path: Path) -> None:
    result = run(tmp_path, "data.validation=none", "reg=none", "trainer.max_epochs=1")
    assert result["best"] is None
    assert not paths.checkpoint(tmp_path, "best").exists()


def test_best_on_test_is_labelled_so(run, tmp_path: Path) -> None:
    best = run(tmp_path, "data.validation=test", "reg=none", "trainer.max_epochs=1")["best"]
    assert best["chosen_on_test"] is True
    assert "TEST" in best["chosen_by"]
    assert best["value"] == pytest.approx(best["metrics"]["test/balanced_accuracy"])
