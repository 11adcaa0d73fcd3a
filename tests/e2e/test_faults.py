"""A full disk and a read-only one: one message, nothing lost, and the run goes on."""

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.e2e.test_resume import differences, end_state

from carlt.commands import evaluate, prepare, report
from carlt.commands.train import main
from carlt.errors import CarltError
from carlt.runs import paths

pytestmark = pytest.mark.usefixtures("no_plots")
SIZE = ("model.width=16", "reg=none", "trainer.max_epochs=2", "callbacks.checkpoints.every_n_steps=3")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The operating system writes no file beyond ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def mount(*words: str | Path) -> None:
    if subprocess.run(["mount", *words], capture_output=True).returncode:
        pytest.skip("this process may not mount a file system")


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing can be written in ``folder``."""
    if os.geteuid():
        places = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
        for place in places:
            place.chmod(0o500)
        yield
        for place in places:
            place.chmod(0o700)
        return
    mount("--bind", folder, folder)  # root may write everywhere else
    try:
        mount("-o", "remount,bind,ro", folder)
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_checkpoint_that_cannot_be_written_whole(run, resume, tmp_path: Path) -> None:
    """torch reports a full disk as an error of its own, about a position in the file."""
    folder = tmp_path / "run"
    said = rf"^no space left to write {folder}/checkpoints/last.ckpt .*: .*python -m carlt.train resume={folder}$"
    with largest_file(60_000), pytest.raises(CarltError, match=said):
        run(folder, *SIZE)
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["config.yaml"]
    assert resume(folder, "trainer.max_epochs=1")["epochs"] == 1


def test_a_full_disk_in_the_middle_of_a_training(run, resume, tmp_path: Path) -> None:
    disk, whole = tmp_path / "disk", tmp_path / "whole"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", disk)
    try:
        (disk / "others").write_bytes(bytes(shutil.disk_usage(disk).free - 250_000))  # room for one checkpoint
        with pytest.raises(CarltError, match=rf"^no space left to write {disk}/run.*resume={disk}/run$"):
            run(disk / "run", *SIZE)
        assert not list(disk.rglob("*.part"))
        (disk / "others").unlink()
        run(whole, *SIZE)
        resume(disk / "run")
        assert differences(end_state(whole), end_state(disk / "run")) == []
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_read_only_place_is_one_message(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(finished, tmp_path / "runs" / "a")

    def refused(entry, *words: str) -> None:
        monkeypatch.setattr("sys.argv", ["carlt", *words])
        with pytest.raises(SystemExit) as end:
            entry()
        said = capsys.readouterr().err
        assert (end.value.code, said.count("\n")) == (2, 1), said
        assert "(Read-only file system)" in said or "(Permission denied)" in said

    with read_only(tmp_path / "runs"):
        refused(main, "reg=none", "trainer.max_epochs=1", f"hydra.run.dir={tmp_path}/runs/b")
        refused(main, f"resume={folder}", "trainer.max_epochs=4")
        refused(main, "-m", "seed=0,1", f"hydra.sweep.dir={tmp_path}/runs/sweep")
        refused(evaluate.main, f"run={folder}", "posthoc=logit_adjusted", "tau=1")
        refused(report.main, str(folder), f"out={tmp_path}/runs/report")
        refused(prepare.main, "data=digits_lt", f"out={tmp_path}/runs/pictures")
        monkeypatch.setattr("sys.argv", ["carlt", f"run={folder}"])
        evaluate.main()  # writes nothing
    assert differences(end_state(finished), end_state(folder)) == []
    assert not (folder / paths.LOCK).exists()
