"""Every kind of method trains on a GPU in bfloat16, a run goes on there, and its network is used there.

Without one the same runs are made on the CPU, as slow tests, so that a GPU finds no mistake of the tests.
"""

import math
from pathlib import Path
from shutil import which

import pytest
import torch
from PIL import Image

import carlt
from carlt.config.compose import options
from carlt.evaluation.evaluate import evaluate_posthoc

METHODS = [f"{group}={name}" for group in ("loss", "reg", "sampler") for name in options(group) if name != "several"]
METHODS += ["aug=randaugment", "aug=mixup", "aug=cutmix", "aug=cmo", "aug=concutmix"]


@pytest.fixture(params=[pytest.param("cpu", marks=pytest.mark.slow), pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return f"trainer.accelerator={request.param}", "trainer.max_epochs=1", "trainer.precision=bf16-mixed"


@pytest.mark.parametrize("method", METHODS)
def test_it_trains(run, device: tuple[str, ...], method: str, tmp_path: Path) -> None:
    result = run(tmp_path, "reg=car_held", method, *device)
    assert math.isfinite(result["metrics"]["test/accuracy"])
    assert result["hardware"]["device"] == ("cuda" if "gpu" in device[0] else "cpu")


def test_it_goes_on_and_is_used(run, resume, device: tuple[str, ...], tmp_path: Path) -> None:
    run(tmp_path, "reg=car_held", *device)
    assert resume(tmp_path, "trainer.max_epochs=2")["epochs"] == 2
    assert evaluate_posthoc(tmp_path, "car")[0]["posthoc"]["method"] == "car"
    trained = carlt.load_run(tmp_path)
    if "gpu" in device[0]:
        trained.model.cuda()
    Image.new("L", (8, 8), 99).save(tmp_path / "image.png")
    (found,) = trained.predict(tmp_path / "image.png", top_k=2)
    assert len(found.classes) == len(found.adjusted_classes) == 2


@pytest.mark.parametrize("in_memory", ["true", "false"])
def test_files_reach_it_from_workers(run, device: tuple[str, ...], in_memory: str, tmp_path: Path) -> None:
    for split, images in (("train", 8), ("test", 3)):
        for label in "ab":
            for number in range(images):
                path = tmp_path / "photos" / split / label / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.effect_noise((40, 36), 20 + number).save(path)
    words = ["data=image_folder", f"data.root={tmp_path / 'photos'}", "data.image_size=32", "model=resnet8"]
    words += ["data.num_workers=2", f"data.in_memory={in_memory}", "data.batch_size=4", "data.validation=none"]
    result = run(tmp_path / "run", *words, "aug=randaugment", *device)
    assert len(result["class_counts"]) == 2


@pytest.mark.skipif(which("gcc") is None, reason="torch.compile needs a C compiler")
def test_compiled_it_trains(run, device: tuple[str, ...], tmp_path: Path) -> None:
    torch._dynamo.reset()
    result = run(tmp_path, "reg=car", "trainer.compile=true", *device)
    assert math.isfinite(result["metrics"]["test/accuracy"])
