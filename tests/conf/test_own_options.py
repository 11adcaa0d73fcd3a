"""Every config group takes an option of one's own, from a folder outside of carlt and inside of the package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import carlt
from carlt.config import compose
from carlt.config.overrides import compose_checked
from carlt.errors import CarltError
from carlt.testing import check_options

ROOT = Path(__file__).parents[2]

CLASSES = {
    "loss": """
from torch import nn

class MineLoss(nn.Module):
    def __init__(self, power: float = 1.0):
        super().__init__()
        self.power = power
    def forward(self, logits, targets):
        return self.power * nn.functional.cross_entropy(logits, targets)
""",
    "reg": """
from torch import nn

class MineReg(nn.Module):
    def __init__(self, weight: float = 0.1):
        super().__init__()
        self.weight = weight
    def forward(self, logits, targets):
        return self.weight * logits.float().square().mean()
""",
    "model": """
from torch import nn

class MineModel(nn.Module):
    def __init__(self, num_classes, in_channels, image_size):
        super().__init__()
        self.classifier = nn.Linear(in_channels * image_size**2, num_classes)
    def features(self, images):
        return images.flatten(1)
    def forward(self, images):
        return self.classifier(self.features(images))
""",
    "data": """
from carlt.data.datasets.digits import DigitsLT

class MineData(DigitsLT):
    name = "mine"
""",
    "aug": """
class MineView:
    def __init__(self, image_size):
        self.image_size = image_size
    def __call__(self, images, generator):
        return images[..., : self.image_size, : self.image_size].flip(-1)
    def image(self, image):
        return image[..., : self.image_size, : self.image_size].flip(-1)
""",
    "sampler": """
import torch

class MineSampler:
    def order(self, targets, epoch, generator):
        return torch.randperm(len(targets), generator=generator)
""",
    "stage": """
from carlt.stages.crt import CRT

class MineStage(CRT):
    paper = "Mine (ours)"
""",
    "optim": """
import torch
from carlt.training.optim import Optim

class Adam(Optim):
    def optimizer(self, groups):
        return torch.optim.Adam(groups, self.lr)
""",
    "callbacks": """
import lightning as L

class MineCallback(L.Callback):
    def __init__(self, run_dir, every: int = 1):
        self.run_dir, self.every = run_dir, every
    def on_train_epoch_end(self, trainer, module):
        with open(self.run_dir / "epochs.txt", "a") as file:
            file.write(f"{trainer.current_epoch}\\n")
""",
    "logger": """
from lightning.pytorch.loggers import CSVLogger

class MineLogger(CSVLogger):
    def __init__(self, run_dir):
        super().__init__(run_dir, name="mine", version="")
""",
}

FILES = {
    "loss": "_target_: {module}.MineLoss",
    "reg": "_target_: {module}.MineReg",
    "model": "_target_: {module}.MineModel",
    "data": "_target_: {module}.MineData\nimage_size: 8",
    "aug": "view:\n  _target_: {module}.MineView",
    "sampler": "_target_: {module}.MineSampler",
    "stage": "# @package _global_\ndefaults:\n  - override /optim: sgd\nstage:\n  _target_: {module}.MineStage\n"
    "optim: {{lr: 0.05, weight_decay: 0, schedule: cosine, warmup_epochs: 0, min_lr: 0}}\ntrainer:\n  max_epochs: 5",
    "optim": "_target_: {module}.Adam\nlr: 0.001",
    "callbacks": "defaults: [default, _self_]\nmine:\n  _target_: {module}.MineCallback",
    "logger": "mine:\n  _target_: {module}.MineLogger",
    "recipe": "defaults: [digits_lt_cnn, _self_]\nlr: 0.02",
    "family": "{{}}",
    "trainer": "defaults: [default, _self_]\naccumulate_grad_batches: 2",
    "launcher": "# @package _global_\ndefaults:\n  - override /hydra/launcher: basic",
    "sweep": "# @package _global_\ndefaults:\n  - override /hydra/sweeper: basic",
    "preset": "# @package _global_\n# Mine (ours).\n# tables: digits\n"
    "defaults:\n  - override /loss: mine\nreg:\n  weight: 0.25",
}
"""An option ``mine`` of each group."""


def write(conf: Path, module: str) -> None:
    for group, text in FILES.items():
        (conf / group).mkdir(parents=True, exist_ok=True)
        (conf / group / "mine.yaml").write_text(text.format(module=module) + "\n")
    shutil.copy(conf / "recipe" / "mine.yaml", conf / "recipe" / "digits_lt_mine.yaml")  # that of the family


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine_methods.py").write_text("".join(CLASSES.values()))
    write(tmp_path / "conf", "mine_methods")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(compose, "_user_dirs", [])
    return tmp_path / "conf"


@pytest.mark.slow
def test_every_group_takes_an_option_from_outside(conf: Path) -> None:
    groups = {folder.name for folder in (ROOT / "conf").iterdir() if folder.is_dir()}
    assert FILES.keys() == groups | {"preset"}
    assert check_options(conf, "data.image_size=8") == sorted(
        [*(f"{group}=mine" for group in FILES), "recipe=digits_lt_mine"]
    )


@pytest.mark.usefixtures("no_plots")
def test_a_run_of_nothing_but_ones_own(conf: Path, tmp_path: Path) -> None:
    groups = ("loss", "model", "data", "aug", "sampler", "optim", "callbacks", "recipe", "trainer")
    words = [f"{group}=mine" for group in groups] + ["logger=[csv,mine]", "reg=[car,mine]", "callbacks.mine.every=2"]
    short = ("trainer.max_epochs=2", "trainer.accelerator=cpu")
    result = carlt.train(f"hydra.searchpath=[{conf}]", *words, *short, folder=tmp_path / "run")
    assert (tmp_path / "run" / "epochs.txt").read_text() == "0\n1\n"
    assert (tmp_path / "run" / "mine" / "metrics.csv").is_file()
    assert result["epochs"] == 2


@pytest.mark.parametrize("words", ["loss._target_=mine_methods.MineLoss loss.power=2", "loss.power=2 loss=mine"])
def test_values_are_checked_against_the_class_that_is_named(conf: Path, words: str) -> None:
    compose.add_config_dir(conf)
    assert compose_checked("train", words.split()).loss.power == 2
    with pytest.raises(CarltError, match=r"^loss\.power='x': expected a finite number$"):
        compose_checked("train", words.replace("power=2", "power=x").split())
    with pytest.raises(CarltError, match=r"loss\.powr: mine_methods\.MineLoss takes no 'powr'; did you mean"):
        compose_checked("train", words.replace("power=2", "powr=2").split())


def test_a_new_part_can_be_named_on_the_command_line(conf: Path) -> None:
    words = ["callbacks.mine._target_=mine_methods.MineCallback", "callbacks.mine.every=3"]
    assert compose_checked("train", words).callbacks.mine.every == 3
    with pytest.raises(CarltError, match=r"^callbacks\.mine\.every='x': expected an integer$"):
        compose_checked("train", [words[0], "callbacks.mine.every=x"])


def test_a_recipe_that_is_not_there_is_named(conf: Path) -> None:
    compose.add_config_dir(conf)
    lines = "defaults:\n  - override /recipe@_global_.recipe: mine_${family}\n  - _self_\n"
    (conf / "data" / "mine.yaml").write_text(lines + "_target_: mine_methods.MineData\n")
    with pytest.raises(CarltError, match=r"^recipe=mine_cnn: no such recipe; did you mean "):
        compose_checked("train", ["data=mine"])


PLACES = {
    "loss": ("losses", "MineLoss"),
    "reg": ("reg", "MineReg"),
    "model": ("models", "MineModel"),
    "data": ("data", "MineData"),
    "aug": ("aug", "MineView"),
    "sampler": ("samplers", "MineSampler"),
    "stage": ("stages", "MineStage"),
    "optim": ("training/optim", "Adam"),
    "callbacks": ("training/callbacks", "MineCallback"),
    "logger": ("training/loggers", "MineLogger"),
}
"""Where a class of a group goes: a package, to which a module is added, or a module."""
RECIPES = (
    "stage=mine,SGD,0.05,cosine,0,5,first,no,0,ours",
    "mine,SGD,0.1,cosine,5e-4,60,64,no,2,ours",
)
"""Their lines in tests/facts/recipes.csv."""
DISCOVERY = (
    "tests/losses/test_losses.py", "tests/reg/test_regularizers.py", "tests/stages/test_stages.py",
    "tests/aug/test_views.py", "tests/samplers/test_rules.py", "tests/conf/test_conf.py", "tests/conf/test_methods.py",
    "tests/conf/test_presets.py",
)  # fmt: skip


@pytest.mark.slow
def test_every_group_takes_an_option_inside_the_package(tmp_path: Path) -> None:
    """The tutorial's steps in a copy of the repository: no test has to learn the names."""
    for name in ("src", "conf", "tests", "experiments", "docs", "pyproject.toml"):
        source, copy = ROOT / name, tmp_path / name
        shutil.copytree(source, copy) if source.is_dir() else shutil.copy(source, copy)
    write(tmp_path / "conf", "carlt.{place}")
    shutil.move(tmp_path / "conf" / "preset" / "mine.yaml", tmp_path / "experiments" / "preset")
    (tmp_path / "conf" / "preset").rmdir()
    for group, (place, name) in PLACES.items():
        file, home = tmp_path / "conf" / group / "mine.yaml", tmp_path / "src" / "carlt" / place
        file.write_text(file.read_text().replace("{place}", place.replace("/", ".")))
        paper = "" if group == "data" else f"\n{name}.paper = 'Mine (ours)'\n"
        if home.is_dir():
            (home / f"mine_{group}.py").write_text(CLASSES[group] + paper)
            exported = f"\nfrom carlt.{place.replace('/', '.')}.mine_{group} import {name}\n__all__ += ['{name}']\n"
            append(home / "__init__.py", exported)
        else:
            classes = CLASSES[group].replace("from carlt.training.optim import Optim\n", "")
            append(home.with_suffix(".py"), f"{classes}\n__all__ += ['{name}']\n")
    append(tmp_path / "tests" / "facts" / "recipes.csv", "".join(f"{line}\n" for line in RECIPES))
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}/src", "OMP_NUM_THREADS": "1"}
    for script in ("methods_table", "preset_index"):
        subprocess.run([sys.executable, f"experiments/{script}.py"], cwd=tmp_path, env=environment, check=True)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *DISCOVERY],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]


def append(file: Path, text: str) -> None:
    with file.open("a") as stream:
        stream.write(text)
