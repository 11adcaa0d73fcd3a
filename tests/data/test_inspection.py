"""What ``carlt.prepare`` tells of the files of a folder."""

import shutil

import numpy as np
import pytest
from PIL import Image

from carlt.data import ImageFolder, inspection_figure
from carlt.data.inspection import describe, inspect


@pytest.fixture
def folder(make_folder, picture, tmp_path):
    """Copies between all splits and between two classes, a class without test images, one damaged file."""
    root = make_folder(
        tmp_path / "photos", {"train/gull": 6, "train/owl $x$": 3, "val/gull": 2, "test/gull": 3, "train/tern": 5}
    )
    shutil.copy(root / "train/gull/0.jpg", root / "test/gull/copy of 0.jpg")
    shutil.copy(root / "train/gull/1.jpg", root / "val/gull/copy of 1.jpg")
    shutil.copy(root / "val/gull/0.jpg", root / "test/gull/copy of val.jpg")
    shutil.copy(root / "train/gull/2.jpg", root / "train/tern/copy of 2.jpg")
    shutil.copy(root / "train/tern/3.jpg", root / "train/tern/copy of 3.jpg")
    (root / "train/gull/9.png").write_bytes(b"no image")
    (root / "train/gull/8.png").write_bytes(b"no imag!")  # the same size, no copy, and no image either
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    picture(5, 300, 20).save(root / "train/tern/turned.jpg", exif=exif)
    Image.fromarray(np.zeros((7, 5), np.uint8)).save(root / "train/tern/small.png")
    return root


def test_what_is_found(folder, loading):
    splits = ImageFolder(root=folder, **loading).listed
    found = inspect(splits, threads=2)
    assert (found.formats, found.modes) == ({"JPEG": 25, "PNG": 1}, {"RGB": 25, "L": 1})
    assert found.sizes.shape == (26, 2)
    assert {tuple(size) for size in found.sizes.tolist()} == {(64, 48), (20, 300), (5, 7)}
    assert [path.name for path, _ in found.unreadable] == ["8.png", "9.png"]
    assert {reason for _, reason in found.unreadable} == {"the file holds no image"}
    assert len(found.copies) == found.surplus == 5
    (in_test,) = found.shared("train", "test")
    assert {file.path.name for file in in_test} == {"0.jpg", "copy of 0.jpg"}
    assert len(found.shared("train", "val")) == len(found.shared("val", "test")) == 1
    (two_classes,) = found.contradictions
    assert {file.path.name for file in two_classes} == {"2.jpg", "copy of 2.jpg"}


def test_the_command_tells_and_draws(folder, tmp_path, command):
    out = tmp_path / "pictures"
    words = ["data=image_folder", f"data.root={folder}", "data.image_size=32", "model=small_cnn", f"out={out}"]
    _, said, _ = command("prepare", *words)
    for line in (
        "files: JPEG 25, PNG 1; RGB 25, L 1",
        "sizes: median 64 x 48 pixels, smallest 5 x 7, largest 20 x 300",
        "  2 images smaller than data.image_size=32 on a side, to be enlarged",
        "unreadable: 2 files; mend them, or train with data.on_error=skip: ",
        "copies: 5 files with the content of another file",
        "  1 content in train and in test; they make the test accuracy too high; the first: ",
        "  1 content in two classes; the first, in gull and tern: ",
        "near-empty: 1 class with fewer than 5 training images: owl $x$ (3)",
        "2 classes have no test images, so that no test result is about them: tern (9 training images), "
        "owl $x$ (3 training images)",
    ):
        assert line in said
    with Image.open(out / "image_folder_files.png") as image:
        assert len(np.unique(np.asarray(image.convert("L")))) > 20


def test_damaged_images_that_are_left_out_are_not_counted(make_folder, tmp_path, command, monkeypatch):
    root = make_folder(tmp_path / "photos", {"train/gull": 6, "train/tern": 6, "test/gull": 2})
    for name in ("0.jpg", "1.jpg"):
        (root / "train/tern" / name).write_bytes(b"no image")
    words = ["data=image_folder", f"data.root={root}", "data.val_ratio=0", "data.on_error=skip", f"out={tmp_path}"]
    drawn = []
    monkeypatch.setattr(inspection_figure, "_draw_rarest", lambda axes, splits: drawn.append(splits.class_counts))
    _, said, _ = command("prepare", *words, "data.num_workers=0")
    assert "near-empty: 1 class with fewer than 5 training images: tern (4)" in said
    assert drawn[0].tolist() == [6, 4]


def test_nothing_to_tell(make_folder, tmp_path, loading):
    splits = ImageFolder(root=make_folder(tmp_path, {"train/a": 6, "test/a": 2}), val_ratio=0, **loading).listed
    assert describe(inspect(splits), splits, 32).splitlines() == [
        "files: JPEG 8; RGB 8",
        "sizes: median 64 x 48 pixels, smallest 64 x 48, largest 64 x 48",
        "copies: none; no two files have the same content",
    ]


def test_images_in_memory_are_inspected_as_files(make_folder, tmp_path, loading):
    data = ImageFolder(root=make_folder(tmp_path, {"a": 5, "b": 5}), in_memory=True, **loading)
    assert len(data.splits.train.images.pixels) + len(data.splits.val or []) + len(data.splits.test) == 10
    assert len(inspect(data.listed).sizes) == 10


def test_of_many_near_empty_classes_some_are_named(make_folder, tmp_path, loading):
    root = make_folder(tmp_path, {f"train/{label:02}": 1 + label // 6 for label in range(12)} | {"test/00": 1})
    splits = ImageFolder(root=root, val_ratio=0, **loading).listed
    (line,) = [line for line in describe(inspect(splits), splits, 32).splitlines() if line.startswith("near-empty")]
    assert line.startswith("near-empty: 12 classes with fewer than 5 training images: 00 (1), 01 (1), ")
    assert line.endswith("06 (2), 07 (2) and 4 more")
