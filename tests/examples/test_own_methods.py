"""The template for methods of one's own (``examples/own_methods``): found, checked, trained, used after training."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from PIL import Image
from tests.conftest import Command

import carlt
from carlt.config import compose
from carlt.config.overrides import compose_checked
from carlt.errors import CarltError
from carlt.runs.record import read_result

TEMPLATE = Path(__file__).parents[2] / "examples" / "own_methods"
CONF = TEMPLATE / "own_methods" / "conf"
OWN = ("data=stripes", "model=mlp", "loss=probability", "reg=[car,logit_penalty]", "aug=roll")
SHORT = ("trainer.accelerator=cpu", "trainer.max_epochs=2")
CHECKS = [line.split("(")[0][4:] for line in (TEMPLATE / "test_own_methods.py").read_text().splitlines()
          if line.startswith("def test_")]  # fmt: skip


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a command that starts in the template's folder, and without the options of other tests."""
    monkeypatch.syspath_prepend(str(TEMPLATE))
    monkeypatch.setattr(compose, "_user_dirs", [])
    compose.installed_dirs.cache_clear()
    yield
    compose.installed_dirs.cache_clear()


@pytest.mark.parametrize("name", CHECKS)
def test_the_template_passes_its_own_tests(name: str) -> None:
    getattr(importlib.import_module("test_own_methods"), name)()


def install(folder: Path, entry: str) -> str:
    """What ``pip install`` of the template leaves in a folder of packages."""
    (folder / "own_methods-0.1.0.dist-info").mkdir()
    (folder / "own_methods-0.1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: own-methods\n")
    (folder / "own_methods-0.1.0.dist-info" / "entry_points.txt").write_text(f"[carlt.conf]\nown = {entry}\n")
    return str(folder)


@pytest.mark.parametrize("way", ["--config-dir", "hydra.searchpath", "pkg", "entry point"])
def test_every_way_to_name_the_folder_finds_every_option(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "--config-dir":
        compose.add_config_dir(CONF)
    elif way == "entry point":
        monkeypatch.syspath_prepend(install(tmp_path, "own_methods.conf"))
        compose.installed_dirs.cache_clear()
    else:
        named = "pkg://own_methods.conf" if way == "pkg" else CONF
        assert compose.take_search_path([f"hydra.searchpath=[{named}]", "seed=1"]) == ["seed=1"]
    config = compose_checked("train", [*OWN, "loss.temperature=2", "reg.logit_penalty.weight=0.1", "aug.view.shift=1"])
    assert config.data._target_ == "own_methods.data.Stripes"
    assert (config.loss._target_, config.loss.temperature) == ("own_methods.loss.ProbabilityLoss", 2)
    assert (config.data.image_size, config.hydra.runtime.choices.recipe) == (12, "digits_lt_cnn")
    with pytest.raises(CarltError) as error:
        compose_checked("train", [*OWN, "loss.temperature=0", "model.wdth=3", "data.imbalance_factor=big"])
    named = {line.split(":")[0] for line in str(error.value).splitlines()}
    assert named == {"model.wdth", "data.imbalance_factor='big'", "loss.temperature=0"}
    assert "did you mean width?" in str(error.value)


def test_a_package_without_its_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(install(tmp_path, "own_methods.cnf"))
    with pytest.raises(CarltError, match=r"entry point carlt\.conf: own = own_methods\.cnf has no such folder"):
        compose.installed_dirs()


@pytest.mark.parametrize(
    "words", [["--config-dir", CONF], pytest.param([f"hydra.searchpath=[{CONF}]"], marks=pytest.mark.slow), []]
)
def test_help_lists_options_of_ones_own(
    words: list[Any], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not words:  # installed
        monkeypatch.syspath_prepend(install(tmp_path, "own_methods.conf"))
        compose.installed_dirs.cache_clear()
    code, shown, _ = command("train", "--help", *words)
    assert code == 0
    for word in ("stripes", "mlp", "probability", "logit_penalty", "roll", "bias_only"):
        assert word in shown


@pytest.mark.usefixtures("no_plots")
def test_a_run_with_ones_own_parts_is_used_with_the_word_trust(command: Command, tmp_path: Path) -> None:
    folder, second, conf = tmp_path / "run", tmp_path / "second", ("--config-dir", CONF)
    assert command("train", *conf, *OWN, *SHORT, f"hydra.run.dir={folder}")[0] == 0
    first = read_result(folder)["metrics"]

    def refused(name: str, *words: object) -> None:
        code, _, said = command(name, *words)
        assert code == 2
        for target in ("data.Stripes", "network.MLP", "loss.ProbabilityLoss", "view.Roll"):
            assert f"'own_methods.{target}', which is not a part of carlt; loading it would run its code" in said
        assert "add trust=true" in said

    Image.new("L", (12, 12), 99).save(tmp_path / "image.png")
    resume = (f"resume={folder}", "trainer.max_epochs=3")
    stage = (*conf, "stage=bias_only", f"init_run={folder}", f"hydra.run.dir={second}", "trainer.max_epochs=1")
    images = (f"images={tmp_path / 'image.png'}", f"output={tmp_path / 'found.csv'}")
    uses = [
        ("evaluate", f"run={folder}"),
        ("evaluate", f"run={folder}", "posthoc=tau_norm", "tau=1"),
        ("predict", f"run={folder}", *images),
        ("export", f"run={folder}", "format=safetensors", f"out={tmp_path / 'export'}"),
        ("train", *stage),
        ("train", *resume),
    ]
    for name, *words in uses:
        refused(name, *words)
        assert command(name, *words, "trust=true")[0] == 0, words
    with pytest.raises(CarltError, match="trust=true"):
        carlt.load_run(folder)
    assert read_result(second)["epochs"] == 1
    assert read_result(folder)["epochs"] == 3
    assert read_result(folder)["metrics"] != first
    assert (tmp_path / "found.csv").read_text().count("\n") == 2


@pytest.mark.usefixtures("no_plots")
@pytest.mark.slow
def test_a_sweep_over_ones_own_and_others(command: Command, tmp_path: Path) -> None:
    words = ("-m", "--config-dir", CONF, "loss=probability,ce", "loss.drw_start=0.5", "reg=none", *SHORT)
    code, shown, _ = command("train", *words, f"hydra.sweep.dir={tmp_path}/sweep")
    assert code == 0, shown
    classes = {OmegaConf.load(path).loss._target_ for path in (tmp_path / "sweep").glob("*/config.yaml")}
    assert classes == {"own_methods.loss.ProbabilityLoss", "carlt.losses.CrossEntropy"}


def test_a_class_that_is_not_there_says_where_python_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    compose.add_config_dir(CONF)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(TEMPLATE)])
    for name in [name for name in sys.modules if name.startswith("own_methods")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(CarltError, match=r"No module named 'own_methods'.*must be installed, or lie in the folder"):
        compose_checked("train", ["loss=probability"])


def test_prepare_shows_a_data_set_of_ones_own(command: Command, tmp_path: Path) -> None:
    code, said, _ = command("prepare", "--config-dir", CONF, "data=stripes", f"out={tmp_path}")
    assert code == 0
    assert "30 degrees" in said
    assert (tmp_path / "stripes_profile.png").is_file()


def test_train_in_python_takes_the_folder_too(tmp_path: Path, no_plots: None) -> None:
    words = (f"hydra.searchpath=[{CONF}]", "loss=probability", "reg=none", *SHORT, "trainer.max_epochs=1")
    assert carlt.train(*words, folder=tmp_path / "run")["epochs"] == 1
