"""Every loss with every augmentation, regularizer and stage: a training step, or one line of refusal."""

import importlib.util
from pathlib import Path

import pytest

from carlt import aug, losses, reg, stages
from carlt.config.compose import options
from carlt.config.instantiate import part_class
from carlt.errors import CarltError
from carlt.losses.base import Augmentation
from carlt.ranges import parameters
from carlt.testing.options import training_step

SCRIPT = Path(__file__).parents[2] / "experiments" / "methods_table.py"
spec = importlib.util.spec_from_file_location("methods_table", SCRIPT)
assert spec is not None
assert spec.loader is not None
methods = importlib.util.module_from_spec(spec)
spec.loader.exec_module(methods)


def own_refusal(loss: str, mixing: Augmentation) -> str | None:
    """The reason of the loss itself why images must not be mixed so, if it has one."""
    try:
        getattr(part_class(methods.composed(f"loss={loss}"), "loss"), "check_augmentation", lambda _: None)(mixing)
    except CarltError as error:
        return str(error)
    return None


FAST = ("cutmix", "concutmix")
"""One that mixes images and one that also pastes and relabels; the table of the page has the rest in part."""


@pytest.mark.parametrize(
    "aug", [pytest.param(aug, marks=() if aug in FAST else pytest.mark.slow) for aug in options("aug")]
)
def test_every_augmentation_works_with_every_loss_and_car(aug: str) -> None:
    """Or is refused in one line."""
    for loss in options("loss"):
        said, mixes = methods.refusal(loss=loss, aug=aug, reg="car"), methods.combined(aug=aug).aug
        assert said == own_refusal(loss, Augmentation(bool(mixes.mix), bool(mixes.paste))), loss


@pytest.mark.parametrize(
    "aug", [pytest.param(aug, marks=() if aug in FAST else pytest.mark.slow) for aug in ("none", *methods.MIXING)]
)
def test_what_works_with_car_works_without(aug: str) -> None:
    for loss in options("loss"):
        assert methods.refusal(loss=loss, aug=aug) == methods.refusal(loss=loss, aug=aug, reg="car"), loss


@pytest.mark.parametrize("name", options("stage"))
def test_every_stage_trains_a_classifier_alone(name: str) -> None:
    config = methods.combined(stage=name, reg="car")
    module = training_step(config)
    trained = [place for place, parameter in module.named_parameters() if parameter.requires_grad]
    assert all(place.startswith(("model.classifier.", "loss.")) for place in trained)
    assert all(module.get_parameter(place).grad.isfinite().all() for place in trained)


@pytest.mark.parametrize("name", ["crt", "disalign", "los", "lws", "mislas", "wb"])
def test_published_stages_anneal_without_warm_up(name: str) -> None:
    optim = methods.composed(f"stage={name}").optim
    assert (optim.schedule, optim.warmup_epochs) == ("cosine", 0)


@pytest.mark.parametrize(
    ("part", "released"),
    [
        (losses.BalancedContrastive, {"ce_weight": 2.0, "contrast_weight": 0.6, "temperature": 0.1, "dim": 128}),
        (losses.GLMC, {"power": 1.2, "consistency": 4.0}),
        (losses.LADE, {"alpha": 0.1, "penalty": 0.01}),
        (losses.PaCo, {"alpha": 0.01, "temperature": 0.05, "queue": 1024, "momentum": 0.999, "dim": 32}),
        (stages.MiSLAS, {"lr_factor": 0.2}),
        (stages.WeightBalancing, {"threshold": 0.1, "project": "epoch"}),
        (aug.Paste, {"probability": 0.5, "alpha": 1.0, "power": 0.0}),
        (aug.Remix, {"alpha": 1.0, "kappa": 3.0, "tau": 0.5}),
        (reg.CAR, {"weight": 0.5, "beta": 0.5, "r0": 0.2, "margin": 0.1}),
    ],
)
def test_the_defaults_are_those_of_the_released_code_or_the_paper(part: type, released: dict) -> None:
    """For CIFAR100-LT at imbalance factor 100."""
    assert {name: parameters(part)[name].default for name in released} == released


def test_the_page_shows_the_measured_table() -> None:
    shown = methods.PAGE.read_text().split(methods.BEGIN)[1].split(methods.END)[0].strip()
    assert shown == methods.table(), "run `make methods`"
