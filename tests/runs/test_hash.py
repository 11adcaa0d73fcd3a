"""What is the same run, and what is another."""

from typing import Any

import pytest
from omegaconf import OmegaConf

from carlt.commands.run import config_of_run
from carlt.config.compose import compose_config
from carlt.config.overrides import compose_checked
from carlt.runs.hash import run_hash


def identity(*overrides: str, data: str = "d") -> str:
    return run_hash(config_of_run(composed := compose_checked("train", overrides), composed.hydra), data)


@pytest.fixture(scope="module")
def plain() -> str:
    return identity()


@pytest.mark.parametrize(
    "override",
    [
        "logger=[csv,wandb]",
        "launcher=joblib",
        "sweep=optuna",
        "resume=somewhere",
        "objective=val/few",
        "data.num_workers=3",
        "callbacks.progress.plain_every_s=1",
        "callbacks.checkpoints.every_n_steps=9",
        "optim.lr=1e-1",  # another word for the recipe's 0.1
    ],
)
def test_what_changes_no_number_changes_no_hash(override: str, plain: str) -> None:
    assert identity(override) == plain


def test_where_the_images_lie_changes_no_hash() -> None:
    assert identity("data=cifar10_lt", "data.root=here") == identity("data=cifar10_lt", "data.root=there")


@pytest.mark.parametrize(
    "override",
    ["seed=1", "reg.weight=0.4", "reg=none", "recipe.lr=0.2", "data.imbalance_factor=41", "trainer.max_epochs=61",
     "callbacks.checkpoints.monitor=val/few", "sampler=class_balanced", "channels_last=true", "optim.lr=0.2",
     "aug=mixup"],
)  # fmt: skip
def test_what_changes_a_number_changes_the_hash(override: str, plain: str) -> None:
    assert identity(override) != plain


def test_other_data_is_another_run(plain: str) -> None:
    assert identity(data="e") != plain


def test_the_hash_survives_config_yaml(plain: str) -> None:
    config: Any = OmegaConf.create(OmegaConf.to_yaml(compose_config("train"), resolve=True))
    config.choices = {"reg": "car"}
    assert run_hash(config, "d") == plain
