"""A second stage as a run: from its first run's folder to a folder that stands by itself."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from tests.conftest import Command

from carlt.commands import run as run_module
from carlt.config.second_stage import compose_stage
from carlt.config.stored import resumed_config
from carlt.errors import CarltError
from carlt.evaluation.evaluate import evaluate
from carlt.reporting.groups import group_by_data_set
from carlt.runs import paths
from carlt.runs.hash import run_hash
from carlt.runs.reading import read_runs
from carlt.stages.weight_balancing import MaxNormLinear

pytestmark = pytest.mark.usefixtures("no_plots")


def config_of(folder: Path, stage: str, *overrides: str) -> Any:
    """As the command composes it."""
    composed = compose_stage("train", [f"stage={stage}", f"init_run={folder}", *overrides])
    return run_module.config_of_run(composed, composed.hydra)


@pytest.fixture(scope="module")
def first(run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A first stage unlike the defaults: network, mixing, epochs."""
    folder = tmp_path_factory.mktemp("first") / "run"
    run(folder, "model.width=8", "reg=none", "aug=mixup", "data.val_per_class=10", "trainer.max_epochs=2", "seed=3")
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(paths.checkpoint(folder, "last"), weights_only=True)["state_dict"]


def test_the_config_is_the_first_run_s_but_for_what_the_stage_and_the_command_choose(first: Path) -> None:
    config = config_of(first, "los", "loss.smoothing=0.9", "data.batch_size=32", "reg=car", "reg.weight=2")
    assert (config.model.width, config.data.val_per_class, config.seed) == (8, 10, 3)
    assert (config.trainer.max_epochs, config.trainer.accelerator) == (20, "cpu")
    assert (config.optim.lr, config.loss.smoothing, config.data.batch_size) == (5e-4, 0.9, 32)
    assert (config.reg._target_, config.reg.weight) == ("carlt.reg.CAR", 2)
    assert config.aug.mix is None
    assert config.aug.view == OmegaConf.load(first / paths.CONFIG).aug.view
    assert (config.choices.stage, config.choices.loss) == ("los", "label_smoothing")
    assert "data" not in config.choices or config.choices.data != "wrong"
    assert config.init.epochs == 2
    assert "seed" not in config.init


@pytest.mark.parametrize(
    ("data", "factor", "words", "expected"),
    [
        ("cifar100_lt", 100, "mislas", (0.2, True, 0.4, 0.1, 2e-4, 64)),
        ("cifar100_lt", 50, "mislas", (0.1, True, 0.3, 0.0, 2e-4, 64)),
        ("cifar10_lt", 100, "mislas", (0.5, False, 0.3, 0.0, 2e-4, 64)),
        ("imagenet_lt", None, "mislas", (0.05, True, 0.3, 0.0, 5e-4, 256)),
        ("imagenet_lt", None, "mislas loss.tail=0.2 data.batch_size=16", (0.05, True, 0.3, 0.2, 5e-4, 16)),
        ("inaturalist2018", None, "mislas", (0.05, True, 0.3, 0.0, 1e-4, 256)),
        ("places_lt", None, "mislas", (0.05, True, 0.4, 0.1, 5e-4, 256)),
        ("imagenet_lt", None, "mislas loss=ce", (0.05, True, None, None, 5e-4, 256)),
    ],
)
def test_a_stage_takes_the_released_values_of_the_first_run_s_data(
    data: str, factor: float | None, words: str, expected: tuple, first: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "first"
    shutil.copytree(first, folder)
    stored = OmegaConf.load(folder / paths.CONFIG)
    stored.choices.data = data
    stored.data.pop("imbalance_factor")
    if factor:
        stored.data.imbalance_factor = factor
    OmegaConf.save(stored, folder / paths.CONFIG)
    stage, *overrides = words.split()
    config = config_of(folder, stage, *overrides)
    found = (config.stage.get("lr_factor", 0.2), config.stage.get("updates_statistics", True))
    smoothing = (None, None) if "loss=ce" in overrides else (config.loss.get("head", 0.4), config.loss.get("tail", 0.1))
    assert (*found, *smoothing, config.optim.weight_decay, config.data.batch_size) == expected
    assert "by_data" not in config


def test_weight_balancing_is_projected_at_the_end_of_each_epoch_alone(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bool] = []
    monkeypatch.setattr(MaxNormLinear, "after_step", lambda _, last_of_epoch: calls.append(last_of_epoch))
    words = ("trainer.max_epochs=2", "trainer.accumulate_grad_batches=2", "reg=none")
    run_module.run(config_of(first, "wb", *words), tmp_path / "second")
    assert calls == 2 * [False, False, True]  # five batches


def test_it_is_a_run_that_needs_its_first_no_more(first: Path, tmp_path: Path) -> None:
    begun, folder = tmp_path / "first", tmp_path / "second"
    shutil.copytree(first, begun)
    result = run_module.run(config_of(begun, "crt", "trainer.max_epochs=2"), folder)
    shutil.rmtree(begun)
    again = evaluate(folder)["metrics"]
    assert again == {name: value for name, value in result["metrics"].items() if name in again}
    trained, init = weights(folder), weights(first)
    backbone = {name.replace("model.", "model.backbone."): v for name, v in init.items() if "model.features" in name}
    assert backbone
    moved = {name for name, value in backbone.items() if not torch.equal(trained[name], value)}
    assert moved
    assert all(name.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked") for name in moved)
    assert not torch.equal(trained["model.classifier.weight"], init["model.classifier.weight"])
    more = run_module.run(resumed_config(folder, ["trainer.max_epochs=3"]), folder)
    assert more["epochs"] == 3


@pytest.mark.parametrize("stage", ["wb", pytest.param("mislas", marks=pytest.mark.slow)])
def test_resumed_it_ends_as_if_nothing_had_happened(
    stage: str, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, kills, move = tmp_path / "whole", [], Path.replace

    def copy_then_move(file: Path, target: Path) -> Path:
        if target.name == "last.ckpt" and target.exists():
            kills.append(tmp_path / f"kill{len(kills)}")
            shutil.copytree(whole, kills[-1])
        return move(file, target)

    config = config_of(first, stage, "reg=car", "trainer.max_epochs=2", "callbacks.checkpoints.every_n_steps=3")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", copy_then_move)
        run_module.run(config, whole)
    assert len(kills) >= 3
    expected = weights(whole)
    for kill in (kills[0], kills[-1]):
        run_module.run(resumed_config(kill, []), kill)
        found = weights(kill)
        assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


def test_identity_follows_the_weights_it_begins_with_not_where_they_lie(first: Path, tmp_path: Path) -> None:
    moved, other = tmp_path / "moved", tmp_path / "other"
    shutil.copytree(first, moved)
    shutil.copytree(first, other)
    checkpoint = torch.load(paths.checkpoint(other, "last"), weights_only=True)
    checkpoint["state_dict"]["model.classifier.bias"] += 1
    torch.save(checkpoint, paths.checkpoint(other, "last"))
    one, same, another = (run_hash(config_of(folder, "crt"), "d") for folder in (first, moved, other))
    assert one == same != another
    assert run_hash(config_of(first, "lws"), "d") != one


def test_a_report_shows_it_as_a_configuration_of_its_own(first: Path, tmp_path: Path) -> None:
    for stage in ("crt", "lws"):
        run_module.run(config_of(first, stage, "trainer.max_epochs=1"), tmp_path / stage)
    runs, left_out = read_runs([first, tmp_path])
    assert not left_out
    (data,) = group_by_data_set(runs)
    labels = [group.label for group in data.groups]
    assert len(labels) == 3
    assert sum("stage=crt" in label for label in labels) == sum("stage=lws" in label for label in labels) == 1


def test_an_older_run_without_options_names_and_newer_keys_will_do(first: Path, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    shutil.copytree(first, folder)
    stored = OmegaConf.load(folder / paths.CONFIG)
    for key in ("choices", "init_run"):
        stored.pop(key, None)
    for key in ("transforms", "contrast", "paste", "relabel"):
        stored.aug.pop(key)
    OmegaConf.save(stored, folder / paths.CONFIG)
    config = config_of(folder, "disalign", "trainer.max_epochs=1")
    assert "data" not in config.choices
    assert config.choices.init == "CrossEntropy+NoRegularizer"
    assert run_module.run(config, tmp_path / "second")["epochs"] == 1


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def as_stage(folder: Path) -> None:
    stored = OmegaConf.load(folder / paths.CONFIG)
    stored.stage = {"_target_": "carlt.stages.CRT"}
    stored.init_run = "elsewhere"
    OmegaConf.save(stored, folder / paths.CONFIG)


@pytest.mark.parametrize(
    ("damage", "overrides", "message"),
    [
        (without("config.yaml"), ("stage=crt",), r"init_run=.* is no run folder: it has no config\.yaml"),
        (without("checkpoints/last.ckpt"), ("stage=crt",), r"is no run folder: it has no checkpoints/last\.ckpt"),
        (without("result.json"), ("stage=crt",), r"has not finished: python -m carlt\.train resume=.* finishes it"),
        (as_stage, ("stage=crt",), r"is a second stage; .*init_run=elsewhere"),
        (lambda _: None, (), r"init_run= is for a stage: add stage=\.\.\., one of crt"),
        (lambda _: None, ("stage=crx",), r"stage=crx: no such stage; did you mean crt"),
        (
            lambda _: None,
            ("stage=crt", "model=resnet20"),
            r"model=resnet20: a second stage has the model of its first run",
        ),
        (lambda _: None, ("stage=crt", "model.depth=8"), r"model\.depth: carlt\.models\.SmallCNN takes no 'depth'"),
        (lambda _: None, ("stage=wb", "stage.treshold=1"), r"takes no 'treshold'; did you mean threshold"),
    ],
)
def test_mistakes_are_told_before_anything_runs(
    damage: Callable[[Path], None], overrides: tuple[str, ...], message: str, first: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(first, folder)
    damage(folder)
    with pytest.raises(CarltError, match=message) as error:
        compose_stage("train", [f"init_run={folder}", *overrides])
    assert "\n" not in str(error.value)


def test_a_stage_without_a_first_run_and_one_of_other_classes(first: Path, tmp_path: Path) -> None:
    with pytest.raises(CarltError, match=r"give init_run=<run folder>"):
        compose_stage("train", ["stage=crt"])
    folder = tmp_path / "other"
    shutil.copytree(first, folder)
    checkpoint = torch.load(paths.checkpoint(folder, "last"), weights_only=True)
    for name in ("weight", "bias"):
        key = f"model.classifier.{name}"
        checkpoint["state_dict"][key] = checkpoint["state_dict"][key][:7]
    torch.save(checkpoint, paths.checkpoint(folder, "last"))
    with pytest.raises(CarltError, match=r"of classes: classifier\.weight is \(7, 16\) there and \(10, 16\) here"):
        run_module.run(config_of(folder, "crt"), tmp_path / "second")
    with pytest.raises(CarltError, match=r"BalancedContrastive trains features.*choose another loss"):
        run_module.run(config_of(first, "crt", "loss=bcl"), tmp_path / "third")


def test_a_sweep_over_stages(first: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for again in (False, True):
        words = ("-m", "stage=crt,lws", f"init_run={first}", "trainer.max_epochs=1", "optim.lr=0.05")
        code, output, _ = command("train", *words)
        assert code == 0
        assert f"2 of 2 jobs finished, {2 if again else 0} of them before" in output
        assert "stage=crt" in output
    results = sorted(tmp_path.glob("runs/sweeps/*/*/result.json"))
    assert len(results) == 2
    assert all(OmegaConf.load(path.parent / paths.CONFIG).optim.lr == 0.05 for path in results)


@pytest.mark.slow
def test_a_job_whose_values_do_not_fit_a_stage_fails_alone(
    first: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "it's here").mkdir()
    monkeypatch.chdir(tmp_path / "it's here")
    words = ("-m", "stage=crt", f"init_run={first}", "trainer.max_epochs=1", "optim.lr=0.1,-1,0.2")
    code, said, errors = command("train", *words)
    assert code == 1
    assert "error in job 2 (optim.lr=-1): optim.lr=-1: expected" in errors
    assert "2 of 3 jobs finished" in said


def test_the_config_is_shown_as_it_would_run(
    first: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = []
    for words in (["stage=crt", f"init_run={first}", "optim.lr=0.07"], [f"resume={first}", "trainer.max_epochs=77"]):
        shown = OmegaConf.create(command("train", "--cfg", "job", *words)[1])
        stored = OmegaConf.load(first / paths.CONFIG)
        assert (shown.seed, shown.model) == (stored.seed, stored.model)
        given.append((shown.optim.lr, shown.trainer.max_epochs))
    assert (given[0][0], given[1][1]) == (0.07, 77)
    assert not list(tmp_path.iterdir())
