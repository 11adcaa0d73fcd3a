"""Exported files: each is run by what others run it with, and agrees with the network; its metadata says what it is."""

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.torch_version import TorchVersion

import carlt
from carlt import stages
from carlt.errors import CarltError
from carlt.evaluation import export as module
from carlt.evaluation.export import facts_of, network_of
from carlt.models import CifarResNet, SmallCNN, timm_model
from carlt.models.weights import normalisation

C = 10
COSINE_EXPERTS: dict[str, Any] = {"in_channels": 1, "width": 4, "experts": 2, "cosine_scale": 16.0}
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "cosine experts": lambda: SmallCNN(C, **COSINE_EXPERTS),
    "a second stage": lambda: stages.DisAlign().build_network(SmallCNN(C, 1, width=4, cosine_scale=16.0)),
}
SLOW: dict[str, Callable[[], nn.Module]] = {
    "a CIFAR ResNet with experts": lambda: CifarResNet(C, 8, 1, experts=3, expert_width=0.75),
    "a ResNet of timm with experts": lambda: timm_model("test_resnet", C, 1, 32, experts=2, cosine_scale=16.0),
    "a ViT": lambda: timm_model("test_vit", C, 1, 160),
    "a stage on experts": lambda: stages.CRT().build_network(CifarResNet(C, 8, 1, experts=2)),
} | {
    name: lambda name=name: getattr(stages, name)().build_network(SmallCNN(C, 1, width=4))  # type: ignore[misc]
    for name in stages.__all__
    if name != "Stage"
}
SIDES = {"a ViT": 160, "a ResNet of timm with experts": 32}


def export(run: carlt.TrainedRun, form: str, folder: Path) -> tuple[Path, float]:
    return module.export(run, form, folder, facts_of(run))


@pytest.fixture
def run_with(finished: Path) -> Callable[..., carlt.TrainedRun]:
    """``run_with(network, side)``: the finished run with another network in it."""

    def make(network: nn.Module | None = None, side: int = 8) -> carlt.TrainedRun:
        run = carlt.load_run(finished)
        run.config.data.image_size = side
        if network is not None:
            for parameter in network.parameters():  # so that no logit is 0 by its initial value
                parameter.data += 0.1 * torch.randn_like(parameter)
            run.model.model = network.eval()
        return run

    return make


def some_images(count: int, side: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randint(256, (count, 1, side, side), generator=generator, dtype=torch.uint8)


def onnx_logits(path: Path, images: Tensor) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images.numpy()})[0]


since_torch_2_7 = pytest.mark.skipif(torch.__version__ < "2.7", reason="torch 2.6 cannot write networks as ONNX")


def check_onnx(run: carlt.TrainedRun, folder: Path, side: int) -> None:
    path, difference = export(run, "onnx", folder)
    assert difference <= 1e-4
    for count in (1, 5):  # the number of images is free
        images = some_images(count, side)
        with torch.no_grad():
            expected = run.model(images).numpy()
        assert np.ptp(expected, axis=1).min() > 1e-2
        np.testing.assert_allclose(onnx_logits(path, images), expected, atol=1e-4, rtol=1e-4)


@since_torch_2_7
@pytest.mark.parametrize("name", NETWORKS)
def test_onnxruntime_gives_the_networks_logits(name: str, run_with: Callable, tmp_path: Path) -> None:
    check_onnx(run_with(NETWORKS[name]()), tmp_path, 8)


@since_torch_2_7
@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_onnxruntime_gives_the_logits_of_every_kind_of_network(name: str, run_with: Callable, tmp_path: Path) -> None:
    side = SIDES.get(name, 8)
    check_onnx(run_with(SLOW[name](), side), tmp_path, side)


def test_an_older_torch_is_one_message(run_with: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.6.0+cu124"))
    with pytest.raises(CarltError, match=r"format=onnx needs torch 2\.7 or newer, and this is 2\.6\.0"):
        export(run_with(), "onnx", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_torch_export_runs_without_carlt(run_with: Callable, tmp_path: Path) -> None:
    run = run_with(SmallCNN(C, **COSINE_EXPERTS))
    path, difference = export(run, "torch_export", tmp_path)
    assert (path.name, difference) == ("network.pt2", pytest.approx(0, abs=1e-5))
    facts: dict[str, Any] = {"carlt": ""}
    program = torch.export.load(path, extra_files=facts)
    images = some_images(5)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(images), run.model(images))
    assert json.loads(facts["carlt"])["class_names"] == run.class_names


def test_safetensors_are_initial_weights_with_their_normalisation(run_with: Callable, tmp_path: Path) -> None:
    from safetensors import safe_open

    run = run_with(SmallCNN(C, **COSINE_EXPERTS))
    run.model.mean.fill_(0.25)
    path, _ = export(run, "safetensors", tmp_path)
    again = SmallCNN(C, **COSINE_EXPERTS, weights=str(path))
    torch.testing.assert_close(again.state_dict(), run.model.model.state_dict())
    assert normalisation(again, 1) == ((0.25,), (pytest.approx(run.model.std.item()),))
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["carlt"]) == facts_of(run)


def test_the_facts_are_enough_to_use_the_network(run_with: Callable) -> None:
    facts = facts_of(run_with())
    assert facts["input"] | {"view": 0} == {
        "name": "images", "dtype": "uint8", "shape": ["N", 1, 8, 8], "colours": "grey", "shorter_side": 8, "view": 0,
    }  # fmt: skip
    assert facts["class_names"][3] == "digit 3"
    assert (facts["image_size"], facts["output"]["shape"], facts["class_counts"][0]) == (8, ["N", 10], 104)


@pytest.mark.parametrize("adjustment", [{"class_offsets": torch.arange(10.0)}, {"tau": 1.0}])
def test_adjusted_logits(adjustment: dict[str, Any], run_with: Callable, tmp_path: Path) -> None:
    run = dataclasses.replace(run_with(), **adjustment)
    facts = facts_of(run, adjusted=True)
    assert (facts["class_offsets"], facts["tau"]) == (None, None)  # nothing is left to add
    assert {facts_of(run)[name] is None for name in ("class_offsets", "tau")} == {True, False}
    path, _ = module.export(run, "torch_export", tmp_path, facts)
    images = some_images(5)
    with torch.no_grad():
        expected = run.model(images) + run.adjustment()
    torch.testing.assert_close(torch.export.load(path).module()(images), expected)
    with pytest.raises(CarltError, match="adjusted=true: format=safetensors holds only weights"):
        module.export(run, "safetensors", tmp_path, facts)


def test_the_run_keeps_its_network(run_with: Callable) -> None:
    run = run_with()
    network_of(run)
    assert all(parameter.requires_grad for parameter in run.model.model.parameters())


@pytest.mark.parametrize(
    ("form", "package"),
    [("onnx", "onnx"), ("onnx", "onnxscript"), ("onnx", "onnxruntime"), ("safetensors", "safetensors")],
)
def test_a_missing_package_is_one_message(
    form: str, package: str, run_with: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # importing it fails
    with pytest.raises(CarltError, match=rf"format={form} needs the package {package}: pip install {package}"):
        export(run_with(), form, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_that_differs_is_not_written(
    run_with: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = module.FORMATS["safetensors"]
    wrong = lambda path, network: lambda images: form.read(path, network)(images) + 0.01  # noqa: E731
    monkeypatch.setitem(module.FORMATS, "safetensors", form._replace(read=wrong))
    with pytest.raises(CarltError, match=r"logits differ from the network's by 0.01"):
        export(run_with(), "safetensors", tmp_path)
    assert not list(tmp_path.iterdir())


class Reshapes(SmallCNN):
    """Fixes the number of images: its shape is read as a number."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.reshape(int(images.shape[0]), 1, 8, 8))


class Branches(SmallCNN):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) if images.sum() > 0 else super().forward(-images)


@pytest.mark.parametrize("kind", [Reshapes, Branches])
@pytest.mark.parametrize("form", ["onnx", "torch_export"])
def test_a_network_that_takes_one_number_of_images_is_one_message(
    kind: type[SmallCNN], form: str, run_with: Callable, tmp_path: Path
) -> None:
    with pytest.raises(CarltError, match=rf"{kind.__name__} cannot be exported for any number of images") as error:
        export(run_with(kind(C, 1, width=4)), form, tmp_path)
    assert len(str(error.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())
