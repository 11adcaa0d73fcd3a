"""Every mistake on a command line: found before anything runs, all at once."""

from typing import Any

import pytest
from omegaconf import OmegaConf

from carlt.config.compose import compose_config
from carlt.config.overrides import apply_values, check_single, compose_checked, sweep_overrides
from carlt.errors import CarltError


def mistakes(*overrides: str) -> list[str]:
    with pytest.raises(CarltError) as error:
        compose_checked("train", overrides)
    return str(error.value).splitlines()


def composed(*overrides: str) -> Any:
    return compose_checked("train", overrides)


def test_sound_overrides_pass() -> None:
    config = composed("data=cifar10_lt", "reg=none", "trainer.max_epochs=3", "seed=7", "logger=[csv,wandb]")
    assert (config.data._target_, config.trainer.max_epochs, config.seed) == ("carlt.data.CIFAR10LT", 3, 7)
    assert list(config.logger) == ["wandb"]


def test_a_parameter_that_no_yaml_lists_may_be_set() -> None:
    config = composed("reg.weight=0.25", "trainer.gradient_clip_val=1.0", "callbacks.checkpoints.every_n_steps=7")
    assert (config.reg.weight, config.trainer.gradient_clip_val) == (0.25, 1.0)
    assert config.callbacks.checkpoints.every_n_steps == 7


def test_recipe_values_reach_the_parts() -> None:
    config = composed("recipe.lr=0.3", "recipe.epochs=5")
    assert (config.optim.lr, config.trainer.max_epochs) == (0.3, 5)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("data=imagnet_lt", ["data=imagnet_lt: no such data", "did you mean imagenet_lt?", "digits_lt"]),
        ("reg=cra", ["reg=cra: no such reg", "did you mean car?"]),
        ("optim=sdg", ["optim=sdg: no such optim", "did you mean sgd?"]),
        ("logger=[csv,wandbb]", ["logger=wandbb", "did you mean wandb?"]),
        ("dta=digits_lt", ["dta", "did you mean data?"]),
        ("reg.lamda=1", ["reg.lamda", "carlt.reg.CAR takes no 'lamda'", "weight"]),
        ("reg.weight=abc", ["reg.weight='abc'", "expected a finite number"]),
        ("reg.weight=", ["reg.weight=''", "expected a finite number"]),
        ("reg.surrogate=papr", ["reg.surrogate='papr'", "one of paper, released"]),
        ("trainer.max_epoch=3", ["trainer.max_epoch", "did you mean max_epochs?"]),
        ("trainer.max_epochs=many", ["trainer.max_epochs='many'"]),
        ("optim.schedule=linear", ["optim.schedule='linear'", "one of constant, cosine, multistep"]),
        ("recipe.lr=high", ["recipe.lr=high", "expected a finite number"]),
        ("recipe.epoch=3", ["recipe.epoch", "did you mean epochs?"]),
        ("data.profile=steep", ["data.profile='steep'", "one of exponential, step"]),
        ("sede=1", ["sede", "did you mean seed?"]),
        ("seed=one", ["seed='one'", "expected an integer"]),
        ("optimizer.lr=1", ["optimizer.lr", "no group of values 'optimizer'", "did you mean optim?"]),
        ("reg", ["'reg' is not of the form key=value"]),
        ("preset=ablation/cifar100_lt_no_emma", ["did you mean ablation/cifar100_lt_no_ema or", "--help lists all"]),
        ("data=", ["data=: no such data", "digits_lt"]),
        ("data=null", ["data=null: no such data", "digits_lt"]),
        ("data=[digits_lt,cifar10_lt]", ["only aug, logger, reg take several options", "-m data=a,b"]),
        ("reg=[car,cra]", ["reg=cra: no such reg", "did you mean car?"]),
        ("reg=car,[car,none]", ["a sweep tries single options of reg"]),
        ("data=glob(x*)", ["data=glob(x*): nothing fits it", "digits_lt"]),
        ("seed=glob(*)", ["seed=glob(*): nothing fits it", "options of a group"]),
    ],
)
def test_a_mistake_names_value_place_and_choices(override: str, parts: list[str]) -> None:
    (line,) = mistakes(override)
    assert all(part in line for part in parts), line


def test_a_mistake_deep_in_a_part_is_found_too() -> None:
    (line,) = mistakes("data=cifar10_lt", "aug.view.paddin=2")
    assert line.startswith("aug.view.paddin: carlt.aug.CropFlip takes no 'paddin'; did you mean padding?")


def test_all_mistakes_are_reported_at_once() -> None:
    lines = mistakes("data=imagnet_lt", "reg.lamda=1", "optim.lr=fast", "sede=1", "trainer.max_epochs=2")
    assert [line.split(":")[0] for line in lines] == ["data=imagnet_lt", "reg.lamda", "sede", "optim.lr='fast'"]


def test_every_value_of_a_sweep_is_checked() -> None:
    sweep = ["seed=0,1,2", "reg.weight=0.1,0.5"]
    assert sweep_overrides("train", sweep) == ["seed=0,1,2", "++reg.weight=0.1,0.5"]
    (line,) = mistakes("data=digits_lt,imagnet_lt")
    assert line.startswith("data=imagnet_lt: no such data")
    (line,) = mistakes("seed=0,x")
    assert line.startswith("seed='x': expected an integer")


def test_regularizers_that_are_combined_have_their_values_under_their_names() -> None:
    config = composed("reg=[car,confidence_penalty]", "reg.car.weight=0.3", "reg.confidence_penalty.weight=0.2")
    assert config.reg._target_ == "carlt.reg.SumOfRegularizers"
    assert (config.reg.car.weight, config.reg.confidence_penalty.weight) == (0.3, 0.2)
    (line,) = mistakes("reg=[car,confidence_penalty]", "reg.car.weihgt=1")
    assert line.startswith("reg.car.weihgt: carlt.reg.CAR takes no 'weihgt'; did you mean weight?")


@pytest.mark.parametrize("override", ["reg.weight=0.5,abc", "optim.lr=0.1,fast", "reg.surrogate=paper,papr"])
def test_every_value_of_a_sweep_over_a_part_is_checked(override: str) -> None:
    assert len(mistakes(override)) == 1


def test_a_pattern_stands_for_the_options_that_fit_it() -> None:
    assert sweep_overrides("train", ["data=glob(cifar*)"]) == ["data=choice(cifar100_lt,cifar10_lt)"]
    assert sweep_overrides("train", ["data=glob(*i*_lt,exclude=*net_lt)"]) == [
        "data=choice(cifar100_lt,cifar10_lt,digits_lt)"
    ]


def test_no_preset_is_what_there_is_without_one() -> None:
    assert sweep_overrides("train", ["preset=null", "seed=1", "stage=null"]) == ["seed=1"]


def test_several_values_are_a_sweep() -> None:
    check_single(["seed=0", "aug=[mixup,cutout]", "hydra.run.dir=a"])
    with pytest.raises(CarltError, match=r"^data, seed: several values make a sweep; add -m"):
        check_single(["data=glob(*)", "seed=0,1", "optim.lr=0.1"])


@pytest.mark.parametrize("devices", ["auto", "[0,1]", "-1", "1,2"])
def test_slurm_needs_the_number_of_devices(devices: str) -> None:
    words = ["launcher=slurm", "trainer=ddp", f"trainer.devices={devices}"]
    (problem,) = mistakes(*words)
    assert problem.startswith(f"trainer.devices={devices.replace(',', ', ') if '[' in devices else devices}: ")
    assert problem.endswith("launcher=slurm asks the cluster for one number of devices; give trainer.devices=<number>")
    asked = ["hydra.launcher.tasks_per_node=2", "hydra.launcher.gpus_per_node=2"]
    assert composed(*words, *asked).hydra.launcher.tasks_per_node == 2
    assert composed("launcher=slurm", "trainer=ddp", "trainer.devices=4").hydra.launcher.gpus_per_node == 4
    assert composed("launcher=slurm").hydra.launcher.tasks_per_node == 1


def test_hydra_s_own_overrides_pass() -> None:
    assert "hydra.run.dir=here" in sweep_overrides("train", ["hydra.run.dir=here"])


def stored() -> Any:
    config = compose_config("train")
    return OmegaConf.create(OmegaConf.to_yaml(config, resolve=True))


def test_values_of_a_stored_config_can_change() -> None:
    config = stored()
    apply_values(config, ["trainer.max_epochs=9", "reg.weight=0.1", "data.num_workers=0"])
    assert (config.trainer.max_epochs, config.reg.weight, config.data.num_workers) == (9, 0.1, 0)


def test_parts_of_a_stored_config_cannot_change() -> None:
    with pytest.raises(CarltError, match="model: the parts of a finished or interrupted run are fixed"):
        apply_values(stored(), ["model=resnet20"])


def test_mistakes_in_changes_of_a_stored_config() -> None:
    with pytest.raises(CarltError) as error:
        apply_values(stored(), ["trainer.max_epoch=9", "reg.weight=abc"])
    assert len(str(error.value).splitlines()) == 2
