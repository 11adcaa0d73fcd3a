"""Predictions for image files: which files are found, and what the network says of them."""

from pathlib import Path

import pytest
import torch
from PIL import Image

import carlt
from carlt.data import DigitsLT
from carlt.errors import CarltError
from carlt.evaluation.predict import find_images

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


def test_find_images(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.PNG", "a.jpg", "sub/ünï.webp", "notes.txt"):
        (tmp_path / name).touch()
    a, b, sub = tmp_path / "a.jpg", tmp_path / "b.PNG", tmp_path / "sub" / "ünï.webp"
    assert find_images(tmp_path) == [a, b, sub]
    assert find_images(f"{tmp_path}/**/*") == [a, b, sub]
    assert find_images([b, str(tmp_path), a]) == [b, a, sub]
    for wrong, message in (("nowhere", "does not exist"), ("*.gif", "has no images"), ([], "list is empty")):
        with pytest.raises(CarltError, match=message):
            find_images(str(tmp_path / wrong) if wrong else wrong)


@pytest.mark.parametrize("wrong", [{"top_k": 0}, {"batch_size": 0}])
def test_numbers_below_one_are_refused(finished: Path, tmp_path: Path, wrong: dict[str, int]) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(CarltError, match="expected at least 1"):
        carlt.load_run(finished).predict(tmp_path, **wrong)
