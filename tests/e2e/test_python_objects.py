"""``carlt.train`` from objects: classes, partials, parts of carlt and modules as they are."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

import carlt
from carlt import CAR
from carlt.config.given import state_digest
from carlt.data import DigitsLT, LongTailDataModule
from carlt.data.images import ArrayImages, Split, Splits
from carlt.errors import CarltError
from carlt.losses import Focal
from carlt.losses.base import NetworkLoss
from carlt.losses.step import StepInput, StepOutput
from carlt.models import SmallCNN
from carlt.training.optim import SGD

pytestmark = pytest.mark.usefixtures("no_plots")
SHORT: dict[str, Any] = {"trainer": {"max_epochs": 1, "accelerator": "cpu"}}


class OwnNetwork(nn.Module):
    """A network of the user's own module, built with what carlt knows of the data."""

    def __init__(self, num_classes: int, in_channels: int, image_size: int, width: int = 4):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(in_channels * image_size**2, width), nn.ReLU(), nn.Linear(width, num_classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class OwnData(LongTailDataModule):
    """Arrays of the user's own: squares that are darker or brighter."""

    name = "squares"
    channels, mean, std = 1, (0.5,), (0.25,)

    def load(self) -> Splits:
        targets = torch.tensor([0] * 12 + [1] * 4)
        images = torch.full((16, 1, 8, 8), 200, dtype=torch.uint8)
        images[targets == 1] = 50
        split = Split(ArrayImages(images), targets)
        return Splits(train=split, val=None, test=split, class_names=["bright", "dark"])


class OwnNetworkLoss(NetworkLoss):
    def compute_loss(self, network: nn.Module, step: StepInput) -> StepOutput:
        raise NotImplementedError


def linear(outputs: int = 10) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, outputs))


def weights(network: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(network.parameters()).detach().clone()


def test_objects_of_carlt_are_overrides(tmp_path: Path) -> None:
    data = DigitsLT(imbalance_factor=20)
    car = CAR(data.class_counts, weight=1.0)
    by_objects = carlt.train(
        data=data, model=functools.partial(SmallCNN, width=8), loss=Focal(data.class_counts, gamma=1.0), reg=car,
        optim=functools.partial(SGD, lr=0.05), seed=3, folder=tmp_path / "objects", **SHORT,
    )  # fmt: skip
    assert car.updates.sum() == 0  # it says what to train; another one was trained
    by_overrides = carlt.train(
        "data=digits_lt", "data.imbalance_factor=20", "model.width=8", "loss=focal", "loss.gamma=1.0", "reg=car",
        "reg.weight=1.0", "optim.lr=0.05", "seed=3", "trainer.max_epochs=1", "trainer.accelerator=cpu",
        folder=tmp_path / "overrides",
    )  # fmt: skip
    assert by_objects["run_hash"] == by_overrides["run_hash"]
    first, second = ((tmp_path / name / "per_class.csv").read_bytes() for name in ("objects", "overrides"))
    assert first == second
    assert carlt.load_run(tmp_path / "objects").model.reg.weight == 1.0
    result = carlt.train(resume=tmp_path / "objects", trainer={"max_epochs": 2})
    assert (result["epochs"], result["folder"]) == (2, str(tmp_path / "objects"))


def test_a_module_is_trained_itself(tmp_path: Path) -> None:
    network = linear()
    before = weights(network)
    result = carlt.train(model=network, loss=nn.CrossEntropyLoss(), folder=tmp_path / "run", **SHORT)
    assert not torch.equal(weights(network), before)
    config: Any = OmegaConf.load(tmp_path / "run" / "config.yaml")
    assert (config.choices.model, config.model.name) == ("Sequential", "Sequential")
    with pytest.raises(CarltError, match=r"carlt.load_run\(folder, model=Sequential\(...\)\)"):
        carlt.load_run(tmp_path / "run")
    fresh = linear()
    run = carlt.load_run(tmp_path / "run", model=fresh, loss=nn.CrossEntropyLoss())
    assert torch.equal(weights(fresh), weights(network))
    assert run.metrics["test/accuracy"] == result["metrics"]["test/accuracy"]
    with pytest.raises(CarltError, match=r"modle= is none of model=, loss=, reg="):
        carlt.load_run(tmp_path / "run", modle=fresh)
    more = carlt.train(resume=tmp_path / "run", model=linear(), loss=nn.CrossEntropyLoss(), trainer={"max_epochs": 2})
    assert more["epochs"] == 2
    assert config.model.state != state_digest(network)  # another beginning is another run, with another hash


def test_classes_of_ones_own(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    result = carlt.train(
        data=functools.partial(OwnData, image_size=8, batch_size=8), model=OwnNetwork, aug="none", loss="ce", reg=CAR,
        folder=folder, **SHORT,
    )  # fmt: skip
    assert (result["data"]["name"], result["class_counts"]) == ("squares", [12, 4])
    config: Any = OmegaConf.load(folder / "config.yaml")
    assert (config.choices.data, config.choices.model, config.choices.reg) == ("OwnData", "OwnNetwork", "car")
    with pytest.raises(CarltError, match="trust=true"):
        carlt.load_run(folder)
    assert carlt.load_run(folder, trust=True).class_names == ["bright", "dark"]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (lambda: {"reg": CAR([5, 3, 2])}, r"reg: its class_counts are \[5, 3, 2\], but the training images of each"),
        (lambda: {"model": linear(7)}, r"model: Sequential, .* gives a tensor \(2, 7\); .* it has to give \(2, 10\)"),
        (lambda: {"model": nn.Linear(3, 10)}, r"model: Linear, given 2 images \(2, 1, 8, 8\), raises RuntimeError"),
        (lambda: {"data": DigitsLT(seed=1)}, r"data: leave seed out; carlt.train\(..., seed=...\) chooses it"),
        (
            lambda: {"data": object()},
            r"data: give the class, or functools.partial\(class, ...\), not an object of type object",
        ),
        (lambda: {"loss": OwnNetworkLoss()}, r"loss: OwnNetworkLoss runs the network itself: give the class"),
        (
            lambda: {"logger": object()},
            "logger: an object of type object cannot be stored in the config; objects are for data, model",
        ),
        (lambda: {"reg": functools.partial(CAR, None)}, r"name the arguments of functools.partial\(CAR, ...\)"),
        (lambda: {"reg": functools.partial(CAR, wieght=1)}, "reg.wieght: .* takes no 'wieght'; did you mean weight"),
        (
            lambda: {"reg": functools.partial(CAR, weight=torch.ones(1))},
            "reg.weight: a value of type Tensor cannot be stored in the config",
        ),
        (lambda: {"model": lambda: None}, "is defined inside a function or class; define it at module level"),
        (lambda: {"trainer": {"max_epoch": 1}}, "trainer.max_epoch: .* did you mean max_epochs"),
        (lambda: {"reg": "cra"}, "did you mean car"),
    ],
)
def test_a_mistake_is_one_error(
    parts: Callable[[], dict[str, Any]], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CarltError, match=message):
        carlt.train(**SHORT | parts())
    assert not list(tmp_path.iterdir())
