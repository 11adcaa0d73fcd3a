"""The wheel carries its conf/ and runs outside the checkout."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from carlt.config.compose import conf_dir

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_every_yaml(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"carlt/conf/{path.relative_to(conf_dir()).as_posix()}" for path in conf_dir().rglob("*.yaml")} <= names


PROGRAM = "from carlt.config.compose import conf_dir; from carlt.train import main; print(conf_dir()); main()"


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(folder)  # a pure wheel needs no more to be installed
    return folder


def train(installed: Path, folder: Path, *arguments: str) -> str:
    """What ``carlt.train`` of the wheel prints, run in ``folder``."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_composes_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    where, *config = train(
        installed, tmp_path, "data=imagenet_lt", "model=resnet50", "reg=car", "--cfg", "job"
    ).splitlines()
    assert where == str(installed / "carlt" / "conf")
    assert "carlt.data.ImageNetLT" in "\n".join(config)
    assert (installed / "carlt" / "py.typed").is_file()


@pytest.mark.slow  # torch compiles twice
def test_the_wheel_trains_a_compiled_network_and_goes_on(installed: Path, tmp_path: Path) -> None:
    options = ("trainer.compile=true", "trainer.accelerator=cpu", "trainer.max_epochs=1", "hydra.run.dir=run")
    train(installed, tmp_path, *options)
    train(installed, tmp_path, "resume=run", "trainer.max_epochs=2")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["epochs"] == 2
    assert result["compute"]["compile"] is True
