"""Every loss with every augmentation, regularizer and stage: a training step, or one line of refusal."""

import importlib.util
from pathlib import Path

import pytest

from carlt.config.compose import options
from carlt.training import build

SCRIPT = Path(__file__).parents[2] / "experiments" / "methods_table.py"
spec = importlib.util.spec_from_file_location("methods_table", SCRIPT)
assert spec is not None
assert spec.loader is not None
methods = importlib.util.module_from_spec(spec)
spec.loader.exec_module(methods)


@pytest.mark.parametrize("aug", options("aug"))
def test_every_augmentation_works_with_every_loss_and_car(aug: str) -> None:
    """Or is refused in one line."""
    for loss in options("loss"):
        said, mixes = methods.refusal(loss=loss, aug=aug, reg="car"), methods.combined(aug=aug).aug
        if loss == "glmc" and (mixes.mix or mixes.paste):
            assert said == "loss=glmc mixes each batch with a second one by itself: choose an aug that does not mix"
        else:
            assert said is None, loss


@pytest.mark.parametrize("aug", ["none", *methods.MIXING])
def test_what_works_with_car_works_without(aug: str) -> None:
    for loss in options("loss"):
        assert methods.refusal(loss=loss, aug=aug) == methods.refusal(loss=loss, aug=aug, reg="car"), loss


@pytest.mark.parametrize("name", options("stage"))
def test_every_stage_trains_a_classifier_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "LongTailClassifier", methods.Silent)
    assert {
        methods.composed(f"stage={name}").optim.schedule,
        methods.composed(f"stage={name}").optim.warmup_epochs,
    } == {"cosine", 0}
    config = methods.combined(stage=name, reg="car")
    data = build.build_data(config)
    module = build.build_module(config, data)
    module.training_step(next(iter(data.train_dataloader())), 0)["loss"].backward()
    trained = [place for place, parameter in module.named_parameters() if parameter.requires_grad]
    assert all(place.startswith(("model.classifier.", "loss.")) for place in trained)
    assert all(module.get_parameter(place).grad.isfinite().all() for place in trained)


def test_the_page_shows_the_measured_table() -> None:
    shown = methods.PAGE.read_text().split(methods.BEGIN)[1].split(methods.END)[0].strip()
    assert shown == methods.table(), "run `make methods`"
