"""A full disk, a moved folder, a lost checkpoint, a clock that goes back: one line, nothing lost, the same end."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.data.conftest import make_folder
from tests.e2e.test_resume import differences, end_state
from torch.utils.data import get_worker_info

from carlt.data import FileImages
from carlt.errors import CarltError
from carlt.runs import paths
from carlt.training.module import LongTailClassifier

pytestmark = pytest.mark.usefixtures("no_plots")
SIZE = ("model.width=16", "trainer.max_epochs=2", "callbacks.checkpoints.every_n_steps=3")
CHECKPOINT = 180_000
"""Bytes of a checkpoint of this network, about."""


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(folder, *SIZE)
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("this process may not mount a tmpfs")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


# Full before the config, in the first checkpoint, in the second one beside the first. Every other write: below.
@pytest.mark.parametrize(
    "free",
    [
        pytest.param(0, marks=pytest.mark.slow),
        pytest.param(CHECKPOINT // 2, marks=pytest.mark.slow),
        CHECKPOINT * 3 // 2,
    ],
)
def test_a_full_disk_is_one_line_and_the_run_goes_on(free: int, run, resume, whole: Path, small_disk: Path) -> None:
    folder, filler = small_disk / "run", small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - free))
    with pytest.raises(CarltError, match=rf"no space left to write .*go on with: .*resume={folder}$"):
        run(folder, *SIZE)
    assert not list(folder.rglob("*.part"))
    filler.unlink()
    if (folder / paths.CONFIG).exists():
        resume(folder)
        assert differences(end_state(whole), end_state(folder)) == []


def interrupted_at_write(n: int, run, folder: Path) -> bool:
    """Run into ``folder``; its write number ``n`` meets a full disk. Whether there were so many writes."""
    move, seen = Path.replace, 0

    def replace(file: Path, target: Path) -> Path:
        nonlocal seen
        if folder in file.parents:
            seen += 1
            if seen == n:
                raise OSError(errno.ENOSPC, "No space left on device", str(target))
        return move(file, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        try:
            run(folder, *SIZE)
        except CarltError as error:
            said = str(error)
        else:
            return False
    assert "no space left to write" in said
    assert len(said.splitlines()) == 1
    return True


@pytest.mark.slow
def test_a_full_disk_in_the_middle_of_any_write(run, resume, whole: Path, tmp_path: Path) -> None:
    n = 1
    while interrupted_at_write(n, run, folder := tmp_path / str(n)):
        assert not list(folder.rglob("*.part"))
        if (folder / paths.CONFIG).exists():
            resume(folder)
            assert differences(end_state(whole), end_state(folder)) == [], n
        n += 1
    assert n > 8  # the files of a run, and then none is left to fail


def test_a_moved_run_goes_on_although_the_clock_went_back(
    run, resume, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert interrupted_at_write(6, run, tmp_path / "first")
    assert paths.checkpoint(tmp_path / "first", "last").is_file()
    moved = tmp_path / "elsewhere" / "named anew"
    moved.parent.mkdir()
    (tmp_path / "first").rename(moved)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 1e8)
    monkeypatch.setattr(time, "time_ns", lambda: int((now - 1e8) * 1e9))
    result = resume(moved)
    assert result["timings"]["fit_s"] >= 0
    assert differences(end_state(whole), end_state(moved)) == []
    assert not (tmp_path / "first").exists()


@pytest.mark.parametrize("broken", ["missing", "truncated", "garbage", "empty"])
@pytest.mark.parametrize("best", [True, False])
def test_a_lost_last_checkpoint(finished: Path, resume, tmp_path: Path, broken: str, best: bool) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    last = paths.checkpoint(folder, "last")
    content = last.read_bytes()
    last.unlink()
    if broken != "missing":
        last.write_bytes({"truncated": content[:-1000], "garbage": b"no zip" * 99, "empty": b""}[broken])
    if not best:
        paths.checkpoint(folder, "best").unlink()
    said = r"resume=.*last.ckpt.*; go on from the best epoch \(\d\) with: cp .*best.ckpt .*last.ckpt$"
    with pytest.raises(CarltError, match=said if best else "last.ckpt.*; start a new run$"):
        resume(folder, "trainer.max_epochs=4")
    if best and broken == "missing":  # the remedy works
        shutil.copy(paths.checkpoint(folder, "best"), last)
        assert resume(folder, "trainer.max_epochs=4")["epochs"] == 4


@pytest.mark.slow
def test_two_processes_on_one_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "carlt.train", "trainer.max_epochs=20", "trainer.accelerator=cpu"]
    command.append(f"hydra.run.dir={tmp_path / 'run'}")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    errors = [process.communicate()[1] for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) == [0, 2]
    assert "another process uses" in errors[codes.index(2)] or "holds a run" in errors[codes.index(2)]


def test_what_a_killed_write_left_goes_when_the_run_goes_on(finished: Path, resume, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    left = folder / paths.CHECKPOINTS / "last.ckpt.0123abcd.part"
    left.write_bytes(b"half of it")
    resume(folder, "trainer.max_epochs=4")
    assert sorted(path.name for path in left.parent.iterdir()) == ["best.ckpt", "last.ckpt"]


GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 1.00 GiB")
MACHINE = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 40000000000 bytes. Error 12")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (GPU, "the GPU has too little memory for 20.00 MiB more; "),
        (MACHINE, "this machine has too little memory for 37.3 GiB more; "),
        (MemoryError(), "this machine has too little memory; "),
    ],
)
def test_too_little_memory_is_one_line(error: Exception, said: str, run, resume, tmp_path: Path, monkeypatch) -> None:
    def refuse(*_: Any) -> None:
        raise error

    folder, sizes = tmp_path / "run", "lower data.batch_size=64 or data.eval_batch_size=512 or data.image_size=8"
    with monkeypatch.context() as patch:
        patch.setattr(LongTailClassifier, "test_step", refuse)
        with pytest.raises(CarltError, match=f"^{said}lower data.eval_batch_size=512. All epochs are trained"):
            run(folder, "reg=none", "trainer.max_epochs=1")
        patch.setattr(LongTailClassifier, "training_step", refuse)
        with pytest.raises(CarltError, match=f"^{said}{sizes}$"):
            resume(folder, "trainer.max_epochs=2")
    assert resume(folder, "data.eval_batch_size=100")["epochs"] == 2


def test_a_loader_s_process_that_was_killed_is_one_line(run, tmp_path: Path, monkeypatch) -> None:
    root = make_folder(tmp_path / "photos", {"a": 12, "b": 12})
    load = FileImages.load

    def killed(images: FileImages, index: int) -> torch.Tensor:
        if get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return load(images, index)

    monkeypatch.setattr(FileImages, "load", killed)
    options = ("data=image_folder", f"data.root={root}", "data.num_workers=1", "data.in_memory=false")
    said = r"^a process that loads images was stopped, .*worker.*; lower data\.num_workers, or give the container more"
    with pytest.raises(CarltError, match=said):
        run(tmp_path / "run", *options, "data.image_size=16", "data.batch_size=4", "model=small_cnn")
