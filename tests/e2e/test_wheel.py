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


COMPOSE = """
import sys
from carlt.config.compose import compose_config, conf_dir
print(conf_dir())
print(compose_config("train", sys.argv[1:]))
"""
TRAIN = "from carlt.train import main; main()"


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(folder)  # a pure wheel needs no more to be installed
    return folder


def python(program: str, installed: Path, folder: Path, *arguments: str) -> str:
    """What a program prints that imports the wheel's carlt, run in ``folder``."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_composes_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    options = ("data=imagenet_lt", "model=resnet50", "reg=car")
    where, config = python(COMPOSE, installed, tmp_path, *options).splitlines()
    assert where == str(installed / "carlt" / "conf")
    assert "carlt.data.ImageNetLT" in config
    assert (installed / "carlt" / "py.typed").is_file()


@pytest.mark.slow  # torch compiles twice
def test_the_wheel_trains_a_compiled_network_and_goes_on(installed: Path, tmp_path: Path) -> None:
    options = ("trainer.compile=true", "trainer.accelerator=cpu", "trainer.max_epochs=1", "hydra.run.dir=run")
    python(TRAIN, installed, tmp_path, *options)
    python(TRAIN, installed, tmp_path, "resume=run", "trainer.max_epochs=2")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["epochs"] == 2
    assert result["compute"]["compile"] is True
