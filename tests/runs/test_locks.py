"""A folder belongs to one run: claimed before anything is written, by a lock that a killed process does not hold."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.conftest import Command

from carlt.errors import CarltError
from carlt.runs import paths
from carlt.runs.locks import claim_folder

HOLD = (
    "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); input()"
)


@contextmanager
def another_process_in(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds ``folder`` as a run does."""
    command = [sys.executable, "-S", "-c", HOLD, str(folder / paths.LOCK)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        yield other
        other.kill()


@pytest.fixture
def refused(command: Command) -> Callable[..., str]:
    """``refused(*words)``: the message with which ``carlt.train`` refuses these words."""

    def call(*words: str) -> str:
        code, _, errors = command("train", *words)
        assert code == 2
        return errors

    return call


def content(folder: Path) -> dict[Path, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != paths.LOCK]
    return {path.relative_to(folder): path.read_bytes() for path in files}


def test_of_two_commands_into_one_folder_the_second_writes_nothing(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with another_process_in(tmp_path / "run"):
        said = refused("reg=none", "trainer.max_epochs=1", "trainer.accelerator=cpu", f"hydra.run.dir={tmp_path}/run")
        assert f"another process uses {tmp_path}/run; wait until it ends, or choose another hydra.run.dir" in said
        assert content(tmp_path / "run") == {}


def test_a_run_that_still_runs_is_not_resumed(refused: Callable[..., str], finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    with another_process_in(folder):
        assert f"another process uses {folder}" in refused(f"resume={folder}", "trainer.max_epochs=9")
    assert content(folder) == content(finished)


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    with another_process_in(tmp_path) as other:
        with pytest.raises(CarltError, match="another process uses"), claim_folder(tmp_path, new=True):
            pass
        other.kill()
        other.wait()
        with claim_folder(tmp_path, new=True):
            assert (tmp_path / paths.LOCK).exists()
    assert not (tmp_path / paths.LOCK).exists()


@pytest.mark.parametrize("name", [paths.RESULT, paths.METRICS, paths.CHECKPOINTS])
def test_a_new_run_takes_no_folder_of_another(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with (
        pytest.raises(CarltError, match=rf"holds a run: go on with it \(resume={tmp_path}\)"),
        claim_folder(tmp_path, new=True),
    ):
        pass
    with claim_folder(tmp_path, new=False):
        pass


def test_a_config_of_another_program_is_not_overwritten(tmp_path: Path) -> None:
    config = tmp_path / paths.CONFIG
    for content in (b"mine: 1\n", b"name: \xe9\n"):
        config.write_bytes(content)
        with pytest.raises(CarltError, match=r"config\.yaml is not of carlt"), claim_folder(tmp_path, new=True):
            pass
        assert config.read_bytes() == content
    config.write_text("seed: 1\nrun_hash: abc\n")  # of a run that did not begin
    with claim_folder(tmp_path, new=True):
        pass


def test_a_lock_of_another_program_stays(tmp_path: Path) -> None:
    (tmp_path / paths.LOCK).write_text("pid 7")
    with pytest.raises(CarltError, match=r"/.lock is no lock of carlt; move it"), claim_folder(tmp_path, new=False):
        pass
    assert (tmp_path / paths.LOCK).read_text() == "pid 7"


def test_a_start_that_fails_leaves_no_folder(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        with claim_folder(folder, new=True):
            raise CarltError("no weights there")

    (tmp_path / "mine").mkdir()
    for folder in (tmp_path / "runs" / "digits_lt" / "first", tmp_path / "mine"):
        with pytest.raises(CarltError, match="no weights"):
            fail(folder)
    assert list(tmp_path.iterdir()) == [tmp_path / "mine"]
    with claim_folder(tmp_path / "runs" / "second", new=True):
        (tmp_path / "runs" / "second" / paths.CONFIG).touch()
    assert content(tmp_path) == {Path("runs") / "second" / paths.CONFIG: b""}
