"""Predictions for image files: which files are found, and what the network says of them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import carlt
from carlt.data import DigitsLT
from carlt.errors import CarltError
from carlt.evaluation.evaluate import evaluate_posthoc
from carlt.evaluation.predict import _grey

pytestmark = pytest.mark.usefixtures("no_plots")


def test_files_give_the_probabilities_of_their_pixels(finished: Path, tmp_path: Path) -> None:
    run = carlt.load_run(finished)
    data = DigitsLT(view=run.transform, eval_view=run.transform, image_size=run.config.data.image_size)
    pixels = data.splits.test.images.pixels[:5]
    for number, image in enumerate(pixels):
        Image.fromarray(image[0].numpy()).save(tmp_path / f"{number}.png")
    (tmp_path / "2b.jpg").write_bytes(b"no image")
    found = list(run.predict(tmp_path, top_k=3, batch_size=2))
    assert [each.path.name for each in found] == ["0.png", "1.png", "2.png", "2b.jpg", "3.png", "4.png"]
    bad = found.pop(3)
    assert bad.classes == bad.probabilities == []
    assert bad.error is not None
    assert "2b.jpg cannot be decoded" in bad.error
    values, numbers = run.probabilities(pixels).topk(3)
    torch.testing.assert_close(torch.tensor([each.probabilities for each in found]), values)
    assert [each.classes for each in found] == [[run.class_names[n] for n in row] for row in numbers.tolist()]
    assert len(next(run.predict(tmp_path / "0.png", top_k=99)).classes) == 10


def test_modes_and_sizes_of_pictures(finished: Path, tmp_path: Path) -> None:
    for mode in ("L", "RGB", "RGBA", "P", "CMYK", "I;16"):
        suffix = "tif" if mode == "CMYK" else "png"
        Image.new(mode, (20, 11)).save(tmp_path / f"{mode.replace(';', '')}.{suffix}")
    found = list(carlt.load_run(finished).predict(tmp_path))
    assert len(found) == 6
    assert all(each.error is None and len(each.classes) == 5 for each in found)


@pytest.mark.parametrize("wrong", [torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, 1, 8, 8)])
def test_probabilities_are_of_images_like_the_run_s(finished: Path, wrong: torch.Tensor) -> None:
    with pytest.raises(CarltError, match=r"images: expected uint8 \(N, 1, H, W\), got"):
        carlt.load_run(finished).probabilities(wrong)


def test_a_network_that_has_diverged_predicts_nothing(finished: Path, tmp_path: Path) -> None:
    run = carlt.load_run(finished)
    next(run.model.parameters()).data.fill_(torch.nan)
    Image.new("L", (9, 7)).save(tmp_path / "a.png")
    for predict in (
        lambda: run.probabilities(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)),
        lambda: list(run.predict(tmp_path)),
    ):
        with pytest.raises(CarltError, match=r"not finite.*its training has diverged; choose another checkpoint"):
            predict()


@pytest.mark.parametrize("wrong", [{"top_k": 0}, {"top_k": 2.5}, {"batch_size": 0}, {"tau": -1.0}, {"tau": 1e308}])
def test_numbers_out_of_range_are_refused(finished: Path, tmp_path: Path, wrong: dict[str, Any]) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(CarltError, match=r"expected an integer, at least 1|expected a finite number in \[0, 100\]"):
        carlt.load_run(finished).predict(tmp_path, **wrong)


def test_a_tau_adds_the_classes_under_equal_frequencies(finished: Path, tmp_path: Path) -> None:
    Image.new("L", (8, 8), 99).save(tmp_path / "a.png")
    run = carlt.load_run(finished)
    assert run.tau is None
    (plain,) = run.predict(tmp_path, top_k=10)
    assert plain.adjusted_classes == ()
    (found,) = run.predict(tmp_path, top_k=10, tau=2.0)
    given = dict(zip(found.classes, found.probabilities, strict=True))
    prior = dict(zip(run.class_names, (run.class_counts / run.class_counts.sum()).tolist(), strict=True))
    scores = {name: value / prior[name] ** 2 for name, value in given.items()}
    for name, value in zip(found.adjusted_classes, found.adjusted_probabilities, strict=True):
        assert value == pytest.approx(scores[name] / sum(scores.values()), rel=1e-4)
    assert found.adjusted_classes[0] != found.classes[0]  # three epochs have learned little but the prior


def test_the_adjustment_is_the_one_that_the_run_has_a_record_of(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    evaluate_posthoc(folder, "logit_adjusted", overrides=["data.val_per_class=1"])
    Image.new("L", (8, 8), 99).save(tmp_path / "a.png")
    run = carlt.load_run(folder)
    record = folder / "posthoc" / "logit_adjusted" / "result.json"
    assert run.tau == json.loads(record.read_text())["posthoc"]["tau"]
    (found,) = run.predict(tmp_path / "a.png")
    assert len(found.adjusted_classes) == 5
    assert carlt.load_run(folder, str(folder / "checkpoints" / "last.ckpt")).tau is None  # chosen for the last epoch
    evaluate_posthoc(folder, "car", overrides=["data.val_per_class=1"])
    balanced = carlt.load_run(folder)
    assert balanced.tau == run.tau
    images = torch.zeros(1, 1, 8, 8, dtype=torch.uint8) + 99
    expected = (balanced.model(images).float() + balanced.class_offsets).softmax(1).topk(5)
    (found,) = balanced.predict(tmp_path / "a.png")
    assert found.adjusted_classes == [run.class_names[number] for number in expected.indices[0].tolist()]
    assert found.adjusted_probabilities == pytest.approx(expected.values[0].tolist(), rel=1e-4)
    (by_hand,) = balanced.predict(tmp_path / "a.png", tau=run.tau)
    assert by_hand.adjusted_probabilities == next(run.predict(tmp_path / "a.png")).adjusted_probabilities
    assert carlt.load_run(folder, str(folder / "checkpoints" / "last.ckpt")).class_offsets is None
    offsets = folder / "posthoc" / "car" / "result.json"
    whole = json.loads(offsets.read_text())
    for wrong in ([0.0] * 9, ["0"] * 10, [True] * 10, [1e999] * 10, [-2e6] * 10, [10**401] * 10, None):
        offsets.write_text(json.dumps(whole | {"posthoc": {"method": "car", "offsets": {"offset": wrong}}}))
        with pytest.raises(
            CarltError, match=r"posthoc/car/result.json: .*a list of 10 numbers in \[-1e\+06, 1e\+06\]; run posthoc=car"
        ):
            carlt.load_run(folder)
    for change, message in (
        ({"epochs": 99}, r"of another training than .*run posthoc=car again, or remove .*posthoc/car"),
        ({"run_hash": "other"}, r"of another training"),
        ({"posthoc": whole["posthoc"] | {"method": "tau_norm"}}, r"no record of posthoc=car"),
        ({"posthoc": None}, r"no record of posthoc=car"),
        ({"posthoc": whole["posthoc"] | {"tau": -1}}, r"tau=-1: expected a finite number in \[0, 100\]"),
    ):
        offsets.write_text(json.dumps(whole | change))
        with pytest.raises(CarltError, match=message):
            carlt.load_run(folder)
    shutil.rmtree(offsets.parent)
    whole = json.loads(record.read_text())
    record.write_text(json.dumps(whole | {"posthoc": whole["posthoc"] | {"tau": "much"}}))
    with pytest.raises(CarltError, match="tau='much': expected a finite number"):
        carlt.load_run(folder)


def test_the_grey_of_a_grey_picture_is_the_picture() -> None:
    image = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(_grey(image.expand(1, 3, 16, 16)), image)


def test_the_grey_of_a_colour_picture_is_pillow_s() -> None:
    pixels = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = np.asarray(Image.fromarray(pixels[0].permute(1, 2, 0).numpy()).convert("L")).astype(int)
    assert np.abs(_grey(pixels)[0, 0].numpy().astype(int) - expected).max() <= 1  # Pillow rounds otherwise
