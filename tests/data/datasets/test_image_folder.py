"""Anyone's folders: layouts, splits, thinning, and what is wrong with them."""

import errno
import os

import numpy as np
import pytest
import torch
from PIL import Image

from carlt.aug import Resize
from carlt.data import ImageFolder
from carlt.errors import CarltError

COUNTS = {"cat": 20, "dog": 10, "owl": 1}


def test_one_folder_is_split_by_ratio(make_folder, tmp_path, loading):
    data = ImageFolder(root=make_folder(tmp_path, COUNTS), **loading)
    train, val, test = (
        split.targets.bincount(minlength=3).tolist()
        for split in vars(data.splits).values()
        if split is not data.class_names
    )
    assert data.class_names == ["cat", "dog", "owl"]
    assert (train, val, test) == ([14, 7, 1], [2, 1, 0], [4, 2, 0])
    paths = [path for split in (data.splits.train, data.splits.val, data.splits.test) for path in split.images.paths]
    assert len(set(paths)) == 31
    again = ImageFolder(root=tmp_path, **loading)
    other = ImageFolder(root=tmp_path, split_seed=1, **loading)
    assert again.checksum() == data.checksum() != other.checksum()


def test_split_folders_are_taken_as_they_are(make_folder, tmp_path, loading):
    make_folder(tmp_path, {"train/a": 3, "train/b": 2, "val/a": 1, "test/b": 2})
    splits = ImageFolder(root=tmp_path, **loading).splits
    assert [len(split) for split in (splits.train, splits.val, splits.test)] == [5, 1, 2]
    assert splits.test.targets.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("given", "train", "val"),
    [
        ({}, [18, 9, 1], [2, 1, 0]),
        ({"val_ratio": 0.2}, [16, 8, 1], [4, 2, 0]),
        ({"val_ratio": 0.0}, [20, 10, 1], None),
        ({"val_per_class": 5}, [15, 5, 1], [5, 5, 0]),
        ({"val_per_class": 15}, [5, 1, 1], [15, 9, 0]),
    ],
)
@pytest.mark.parametrize("tests", ["test", "val"])
def test_without_val_a_share_of_each_training_class_validates(make_folder, tmp_path, loading, given, train, val, tests):
    make_folder(tmp_path, {f"train/{name}": n for name, n in COUNTS.items()} | {f"{tests}/cat": 2, f"{tests}/dog": 1})
    splits = ImageFolder(root=tmp_path, **given, **loading).splits
    assert splits.train.targets.bincount().tolist() == train
    assert (splits.val.targets.bincount(minlength=3).tolist() if splits.val else None) == val
    assert splits.test.targets.tolist() == [0, 0, 1]
    parts = [split for split in (splits.train, splits.val) if split]
    assert len({path for split in parts for path in split.images.paths}) == 31


def test_a_folder_and_a_number_of_validation_images(make_folder, tmp_path, loading):
    make_folder(tmp_path, {"train/a": 3, "val/a": 1, "test/a": 2})
    with pytest.raises(CarltError, match=r"data.val_per_class=1, but .*val holds the validation images already"):
        _ = ImageFolder(root=tmp_path, val_per_class=1, **loading).splits


def test_val_alone_tests(make_folder, tmp_path, loading, caplog):
    make_folder(tmp_path, {"train/a": 3, "train/b": 2, "val/a": 1, "val/b": 1})
    splits = ImageFolder(root=tmp_path, **loading).splits
    assert len(splits.test) == 2
    assert "val/ is the test split" in caplog.text


def test_thinned_to_a_profile(make_folder, tmp_path, loading):
    make_folder(tmp_path, {"train/a": 12, "train/b": 12, "train/c": 12, "test/a": 1, "test/b": 1, "test/c": 1})
    assert ImageFolder(root=tmp_path, imbalance_factor=4, val_ratio=0, **loading).class_counts.tolist() == [12, 6, 3]


def test_in_memory_is_evaluated_as_from_files(tmp_path, loading):
    generator = np.random.default_rng(0)
    for name in ("a/0.png", "a/1.png", "a/2.png", "b/0.png", "b/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(tmp_path / name)
    view = Resize(16, ratio=1.5)
    options = loading | {"view": view, "eval_view": view, "image_size": 16}
    (seen, labels), (held, again) = (
        next(iter(ImageFolder(root=tmp_path, in_memory=in_memory, **options).test_dataloader()))
        for in_memory in (False, True)
    )
    assert torch.equal(labels, again)
    assert (seen.int() - held.int()).abs().max() <= 1


def test_in_memory_is_the_same_data(make_folder, tmp_path, loading):
    make_folder(tmp_path, COUNTS)
    loading["num_workers"] = 2
    data = ImageFolder(root=tmp_path, in_memory=True, **loading)
    assert data.splits.train.images.pixels.shape == (22, 3, 32, 32)
    assert len(next(iter(data.train_dataloader()))[0]) == 8


def test_extensions_and_hidden_files(make_folder, tmp_path, loading):
    make_folder(tmp_path, {"a": 5, "b/deeper": 5, ".hidden": 1})
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "a" / "._0.jpg").write_text("what macOS leaves behind")
    assert ImageFolder(root=tmp_path, **loading).class_counts.tolist() == [4, 4]


def test_hidden_folders_hold_no_images(make_folder, tmp_path, loading):
    make_folder(tmp_path, {"a": 5, "b": 5, "a/.ipynb_checkpoints": 2})
    assert ImageFolder(root=tmp_path, **loading).class_counts.tolist() == [4, 4]


def test_images_beside_the_class_folders_are_named(make_folder, tmp_path, loading, caplog):
    make_folder(tmp_path, {"train/a": 3, "train/b": 2, "test/a": 1})
    (tmp_path / "train" / "stray.jpg").touch()
    assert len(ImageFolder(root=tmp_path, val_ratio=0, **loading).splits.train) == 5
    assert f"left out 1 image in no class folder, the first: {tmp_path}/train/stray.jpg" in caplog.text


def test_one_name_in_two_unicode_forms_is_one_class(make_folder, tmp_path, loading):
    composed, decomposed = "gr\u00fcn", "gru\u0308n"
    make_folder(tmp_path, {f"train/{composed}": 3, "train/白鷺": 3, f"test/{decomposed}": 2, "test/白鷺": 1})
    data = ImageFolder(root=tmp_path, val_ratio=0, **loading)
    assert data.class_names == [composed, "白鷺"]
    assert data.splits.test.targets.tolist() == [0, 0, 1]
    assert len(next(iter(data.test_dataloader()))[0]) == 3
    make_folder(tmp_path, {f"test/{composed}": 1})
    with pytest.raises(CarltError, match=r"in .*/test differ only in case, spaces or Unicode form; rename one"):
        _ = ImageFolder(root=tmp_path, val_ratio=0, **loading).splits


def test_a_folder_around_the_class_folders_is_named(make_folder, tmp_path, loading):
    make_folder(tmp_path, {"photos/cat": 3, "photos/dog": 3})
    with pytest.raises(CarltError, match=rf"has one folder, photos, and that has 2: .* data.root={tmp_path}/photos$"):
        _ = ImageFolder(root=tmp_path, **loading).splits


def test_a_class_of_pictures_that_are_not_read_is_named(make_folder, tmp_path, loading):
    make_folder(tmp_path, {"cat": 3, "dog": 3})
    (tmp_path / "owl").mkdir()
    for name in ("1.HEIC", "2.heic"):
        (tmp_path / "owl" / name).write_bytes(b"a telephone's")
    with pytest.raises(
        CarltError, match=r"/owl has 2 pictures in formats that carlt does not read \(.heic 2\); convert"
    ):
        _ = ImageFolder(root=tmp_path, **loading).splits


@pytest.mark.parametrize("target", ["owl", "elsewhere"])
def test_a_class_that_is_a_link_to_nowhere_is_not_lost(target, make_folder, tmp_path, loading):
    make_folder(tmp_path, {"cat": 5, "dog": 5})
    (tmp_path / "owl").symlink_to(target)  # to itself, or to a disk that is not there
    with pytest.raises(CarltError, match=rf"{tmp_path}/owl is a link that leads nowhere; mend or remove it"):
        _ = ImageFolder(root=tmp_path, **loading).splits


@pytest.mark.parametrize("closed", ["", "dog", "dog/more"])
def test_a_folder_that_cannot_be_listed_is_not_lost(closed, make_folder, tmp_path, loading, monkeypatch):
    make_folder(tmp_path, {"cat": 5, "dog": 5, "dog/more": 5})
    scan = os.scandir

    def refusing(path):
        if os.path.normpath(path) == os.path.normpath(tmp_path / closed):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(CarltError, match=rf"{tmp_path / closed} cannot be read \(Permission denied\)"):
        _ = ImageFolder(root=tmp_path, **loading).splits


def test_two_levels_of_folders_name_a_class(make_folder, tmp_path, loading, caplog):
    counts = {"greek/1": 5, "greek/2": 5, "latin/1": 5}
    make_folder(tmp_path, counts)
    (tmp_path / "greek" / "overview.png").touch()
    data = ImageFolder(root=tmp_path, class_depth=2, **loading)
    assert data.class_names == list(counts)
    assert data.class_counts.tolist() == [4, 4, 4]
    assert "overview.png" in caplog.text
    assert ImageFolder(root=tmp_path, **loading).class_names == ["greek", "latin"]
    with pytest.raises(CarltError, match=r"images belong in .*/<class>/<class>/<class>/"):
        _ = ImageFolder(root=tmp_path, class_depth=3, **loading).splits


@pytest.mark.slow
def test_ten_thousand_classes(tmp_path, loading):
    for label in range(10_000):
        (tmp_path / f"{label:05}").mkdir()
        for i in range(2):
            (tmp_path / f"{label:05}" / f"{i}.jpg").touch()
    data = ImageFolder(root=tmp_path, **loading)
    assert (data.num_classes, len(data.splits.train), len(data.splits.test)) == (10_000, 10_000, 10_000)


def empty_class(root):
    (root / "train" / "empty").mkdir()


def one_name(root):
    (root / "train" / "A ").mkdir()


def unknown_class(root):
    (root / "test" / "c").mkdir()


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [(empty_class, "train/empty has no image"), (unknown_class, "test/c is no class of the training images")],
)
def test_error_or_left_out(make_folder, tmp_path, loading, caplog, spoil, complaint):
    make_folder(tmp_path, {"train/a": 3, "train/b": 2, "test/a": 1})
    spoil(tmp_path)
    with pytest.raises(CarltError, match=complaint):
        _ = ImageFolder(root=tmp_path, **loading).splits
    assert ImageFolder(root=tmp_path, on_error="skip", **loading).class_names == ["a", "b"]
    assert caplog.text.count("left out 1 ") == 1


@pytest.mark.parametrize(
    ("folders", "options", "complaint"),
    [
        ({"train/a": 1, "train/A ": 1}, {}, "classes 'A ' and 'a' .* differ only in case, spaces"),
        ({"val/a": 1, "test/a": 1}, {}, "has test/ but no train/"),
        ({"train/a": 2, "train/b": 2, "valid/a": 1}, {}, "/valid looks like a split; rename it to val"),
        ({"Train/a": 2, "Test/a": 1}, {}, "/Test looks like a split; rename it to test"),
        ({"training/a": 2, "b": 1, "validation/a": 1}, {}, "/training looks like a split; rename it to train"),
        ({}, {}, "has no class folders"),
        ({"a": 2}, {"root": "nowhere"}, "data.root not found at .*nowhere"),
        ({"a": 5, "b": 4}, {"imbalance_factor": 2, "largest_class": 9}, "class 0 has .* lower data.largest_class"),
    ],
)
def test_mistakes(make_folder, tmp_path, loading, folders, options, complaint):
    make_folder(tmp_path, folders)
    with pytest.raises(CarltError, match=complaint):
        _ = ImageFolder(**({"root": tmp_path} | options | loading)).splits


def test_a_class_may_be_named_like_a_split(make_folder, tmp_path, loading):
    make_folder(tmp_path, {"Training": 4, "meeting": 4, "train_station": 4})
    assert ImageFolder(root=tmp_path, **loading).class_names == ["Training", "meeting", "train_station"]


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_image_that_breaks_later(make_folder, tmp_path, loading, caplog, in_memory, num_workers):
    loading |= {"num_workers": num_workers, "batch_size": 100, "val_ratio": 0}
    make_folder(tmp_path, {"train/a": 9, "train/b": 9, "test/a": 1})
    (tmp_path / "train/a/0.jpg").write_bytes(b"")

    def classes(on_error):
        data = ImageFolder(root=tmp_path, in_memory=in_memory, on_error=on_error, **loading)
        return sorted(label for batch in data.train_dataloader() for label in batch.labels.tolist())

    with pytest.raises(
        CarltError, match=r"^image .*train/a/0.jpg cannot be decoded \(the file is empty\).*on_error=skip$"
    ):
        classes("raise")
    assert classes("skip") == [0] * 8 + [1] * 9
    assert "train/a/0.jpg" in caplog.text


def test_full_verification_finds_it_before_training(make_folder, tmp_path, loading):
    make_folder(tmp_path, {"train/a": 3, "train/b": 2, "test/a": 1})
    (tmp_path / "train/b/1.jpg").write_bytes(b"no image")
    with pytest.raises(CarltError, match=r"1 of 5 images .*b/1.jpg: cannot be decoded \([^;]*\)\. Restore"):
        _ = ImageFolder(root=tmp_path, verify="full", **loading).splits
    (tmp_path / "test/a/0.jpg").write_bytes(b"no image")
    with pytest.raises(CarltError, match=r"1 of 5 images .*\n1 of 1 images .*test/a/0.jpg"):  # of all splits
        _ = ImageFolder(root=tmp_path, verify="full", **loading).splits
    (tmp_path / "test/a/0.jpg").write_bytes((tmp_path / "train/a/0.jpg").read_bytes())
    assert len(ImageFolder(root=tmp_path, verify="full", on_error="skip", **loading).splits.train) == 4


def test_every_damaged_image_is_named_up_to_a_number(make_folder, tmp_path, loading):
    make_folder(tmp_path, {"train/a": 30, "train/b": 2, "test/a": 1})
    for i in (3, 5, 8):
        (tmp_path / f"train/a/{i}.jpg").write_bytes(b"no image")
    with pytest.raises(CarltError, match=r"3 of 32 .*t: .*a/3\.jpg: .*; the others: .*a/5\.jpg, .*a/8\.jpg\. Restore"):
        _ = ImageFolder(root=tmp_path, verify="full", val_ratio=0, **loading).splits
    for i in range(30):
        (tmp_path / f"train/a/{i}.jpg").write_bytes(b"no image")
    with pytest.raises(CarltError, match=r"30 of 32 .* and 9 more\. Restore"):
        _ = ImageFolder(root=tmp_path, verify="full", val_ratio=0, **loading).splits
    with pytest.raises(CarltError, match=r"class 'a' in .* has no training image that decodes"):
        _ = ImageFolder(root=tmp_path, on_error="skip", val_ratio=0, **loading).splits


def test_images_that_do_not_decode_are_left_out_before_anything_is_counted(make_folder, tmp_path, loading):
    make_folder(tmp_path, {"a": 10, "b": 10})
    (tmp_path / "a/0.jpg").write_bytes(b"")
    quick, full = (ImageFolder(root=tmp_path, on_error="skip", verify=way, **loading) for way in ("files", "full"))
    assert quick.class_counts.tolist() == full.class_counts.tolist()
    assert sum(len(split) for split in (quick.splits.train, quick.splits.val, quick.splits.test)) == 19


def test_one_class_is_too_few(make_folder, tmp_path, loading):
    with pytest.raises(CarltError, match="image_folder needs images of at least two classes; its classes: a"):
        _ = ImageFolder(root=make_folder(tmp_path, {"a": 10}), **loading).splits


def test_classes_without_test_images_are_named(make_folder, tmp_path, loading):
    make_folder(tmp_path, {"train/a": 3, "train/b": 2, "train/c": 5, "test/b": 2})
    said = ImageFolder(root=tmp_path, **loading).splits.untested()
    assert said == (
        "2 classes have no test images, so that no test result is about them: c (5 training images), "
        "a (3 training images)"
    )
    make_folder(tmp_path / "test", {"a": 1, "c": 1})
    assert ImageFolder(root=tmp_path, **loading).splits.untested() == ""


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_split_of_which_nothing_is_left_is_named(make_folder, tmp_path, loading, in_memory):
    make_folder(tmp_path, {"train/a": 3, "train/b": 2, "val/a": 1, "test/b": 2})
    (tmp_path / "val/a/0.jpg").write_bytes(b"")
    with pytest.raises(CarltError, match="image_folder has no validation image that can be used"):
        _ = ImageFolder(root=tmp_path, on_error="skip", in_memory=in_memory, **loading).splits


@pytest.mark.parametrize("place", ["test", "val", "elsewhere"])
def test_a_split_without_images_is_not_replaced_by_others(place, make_folder, tmp_path, loading):
    make_folder(tmp_path / "in", {"train/a": 9, "train/b": 9} if place != "elsewhere" else {"a": 9, "b": 9})
    for name in "ab":
        folder = (tmp_path if place == "elsewhere" else tmp_path / "in") / place / name
        folder.mkdir(parents=True)
        (folder / "0.heic").write_bytes(b"x")
    options = {"test_root": tmp_path / place} if place == "elsewhere" else {}
    with pytest.raises(CarltError, match=rf"{place} has no image in a class folder; add some, or remove it"):
        _ = ImageFolder(root=tmp_path / "in", **options, **loading).splits
