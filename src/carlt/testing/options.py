"""What every option of a config group promises: it composes, fits its constructors, and a step of training works."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from carlt.config.compose import add_config_dir, compose_config
from carlt.config.instantiate import build
from carlt.config.overrides import compose_checked
from carlt.config.schema import validate
from carlt.testing.part import require
from carlt.training.build import build_data, build_module
from carlt.training.module import LongTailClassifier

TRAINED = ("aug", "loss", "model", "optim", "reg", "sampler", "stage")
"""Groups of which each option takes a step of training."""


def check_options(folder: Path | str, *overrides: str) -> list[str]:
    """Check every YAML file of a folder that is laid out as ``conf/``: composed, checked, and trained with for a step
    on the bundled digits where that shows anything.

    Args:
        folder: as ``--config-dir`` takes it.
        overrides: for all of them, e.g. ``"data.image_size=32"``.

    Returns:
        The options, ``group=name``.

    Raises:
        AssertionError: names the first option that does not work.
        CarltError: the folder does not exist.
    """
    add_config_dir(folder)
    found = []
    for path in sorted(Path(folder).rglob("*.yaml")):
        group, _, name = path.relative_to(folder).with_suffix("").as_posix().partition("/")
        if name and not any(part.startswith("_") for part in name.split("/")):
            found.append(f"{group}={name}")
            _check_option(group, name, overrides)
    return found


def _check_option(group: str, name: str, overrides: Sequence[str]) -> None:
    words = [f"{group}={name}", *overrides]
    try:
        compose_checked("train", words)
        config = composed(*words)
        if group in TRAINED:
            training_step(config)
    except Exception as error:
        raise AssertionError(f"{group}={name}: {type(error).__name__}: {error}") from error


def composed(*words: str) -> DictConfig:
    """The config of options as Hydra composes it, checked; it can be written to a file and read again.

    Raises:
        CarltError: it does not fit its constructors.
    """
    config = compose_config("train", words)
    validate(config)
    again: Any = OmegaConf.create(OmegaConf.to_yaml(config, resolve=True))
    validate(again)
    return config


def training_step(config: DictConfig) -> LongTailClassifier:
    """A step of training on the first batch, without a trainer; returns the module, with its gradients.

    Raises:
        AssertionError: a gradient is missing, not finite, or zero everywhere; or the step changes its batch.
        CarltError: the parts refuse each other.
    """
    data = build_data(config)
    module: Any = build_module(config, data)
    module.log = lambda *_, **__: None
    batch = next(iter(data.train_dataloader()))
    images, labels = batch.images.clone(), batch.labels.clone()
    value = module.training_step(batch, 0)["loss"]
    value.backward()
    require(value.isfinite(), f"the loss is {value}")
    for name, parameter in module.named_parameters():
        found = parameter.grad
        require(not parameter.requires_grad or found is not None, f"{name} has no gradient")
        require(found is None or found.isfinite().all(), f"the gradient of {name} is not finite")
    require(any(p.grad.any() for p in module.model.parameters() if p.grad is not None), "every gradient is zero")
    require(batch.images.equal(images) and batch.labels.equal(labels), "the step changes its batch")
    optimizer = build(config, "optim").configure(module, epochs=1, steps_per_epoch=1)["optimizer"]
    optimizer.step()
    return module
