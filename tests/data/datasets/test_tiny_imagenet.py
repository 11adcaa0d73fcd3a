"""Tiny-ImageNet-LT from a small copy of its layout."""

import os
import shutil
import zipfile

import pytest
import torch

from carlt.data import TinyImageNetLT
from carlt.data.io.download import obtain
from carlt.errors import CarltError


@pytest.fixture
def folder(tmp_path, picture):
    root = tmp_path / "tiny-imagenet-200"
    wnids = ["n2", "n1"]
    for wnid in wnids:
        (root / "train" / wnid / "images").mkdir(parents=True)
        for i in range(6):
            picture(10 * int(wnid[1]) + i, 64, 64).save(root / "train" / wnid / "images" / f"{wnid}_{i}.JPEG")
    (root / "val/images").mkdir(parents=True)
    for i in range(4):
        picture(i, 64, 64).save(root / f"val/images/val_{i}.JPEG")
    (root / "wnids.txt").write_text("n2\nn1\n")
    (root / "words.txt").write_text("n1\tEgyptian cat, cat\nn2\tsea slug\n")
    (root / "val/val_annotations.txt").write_text(
        "".join(f"val_{i}.JPEG\tn{1 + i % 2}\t0\t0\t63\t63\n" for i in range(4))
    )
    return root


def tiny(folder, loading, **options):
    return TinyImageNetLT(
        **({"root": folder.parent, "num_classes": 2, "official": False, "imbalance_factor": 3} | loading | options)
    )


@pytest.mark.parametrize(("image_size", "side"), [(32, 32), (64, 64), (224, 64)])
def test_counts_names_and_sizes(folder, loading, image_size, side):
    data = tiny(folder, loading, image_size=image_size, num_workers=2)
    assert data.class_counts.tolist() == [6, 2]
    assert data.class_names == ["n2 sea slug", "n1 Egyptian cat"]
    assert data.splits.train.images.pixels.shape == (8, 3, side, side)
    assert data.splits.test.targets.tolist() == [1, 0, 1, 0]


def test_the_folder_itself_may_be_the_root(folder, loading):
    assert tiny(folder, loading, root=folder).checksum() == tiny(folder, loading).checksum()


def test_some_of_the_classes(folder, loading):
    splits = tiny(folder, loading, classes=["n1"], imbalance_factor=1, num_classes=200).load()
    assert (splits.class_names, splits.class_counts.tolist()) == (["n1 Egyptian cat"], [6])
    assert splits.test.targets.tolist() == [0, 0]
    assert tiny(folder, loading, classes=["n2", "n1"]).checksum() == tiny(folder, loading).checksum()
    with pytest.raises(CarltError, match=r"data.classes names 'n7' \(1 such\), which .*wnids.txt does not list"):
        _ = tiny(folder, loading, classes=["n1", "n7"]).splits
    for classes in ([], ["n1", "n1"]):
        with pytest.raises(CarltError, match="names no class, or one twice"):
            tiny(folder, loading, classes=classes)


def test_facts(folder, loading):
    with pytest.raises(CarltError, match=r"wnids.txt lists 2 classes, expected 200.*data.num_classes=2"):
        _ = tiny(folder, loading, num_classes=200).splits
    with pytest.raises(CarltError, match=r"images: expected 1000, found 12; .*data.official=false"):
        _ = tiny(folder, loading, official=True).splits
    with pytest.raises(CarltError, match=r"python -m carlt.prepare data=tiny_imagenet_lt"):
        _ = tiny(folder, loading, root="nowhere").splits


def test_validation_images_are_those_that_training_leaves(folder, loading):
    splits = tiny(folder, loading, largest_class=4, imbalance_factor=2, val_per_class=2).splits
    assert splits.train.targets.tolist() == [0] * 4 + [1] * 2
    assert splits.val.targets.tolist() == [0, 0, 1, 1]
    seen = {image.numpy().tobytes() for part in (splits.train, splits.val) for image in part.images.pixels}
    assert len(seen) == 10  # none of them twice


def test_the_zip_is_fetched_where_there_is_no_folder(folder, loading, tmp_path):
    assert tiny(folder, loading).downloads() == tiny(folder, loading, root=folder).downloads() == []
    (download,) = tiny(folder, loading, root=tmp_path / "new").downloads()
    assert download.target == tmp_path / "new" / "tiny-imagenet-200.zip"
    assert download.result == tmp_path / "new" / "tiny-imagenet-200"


def test_bad_input(folder, loading, caplog):
    (folder / "val/images/val_1.JPEG").write_bytes(b"")
    with pytest.raises(CarltError, match=r"val_1.JPEG cannot be decoded \(the file is empty\)"):
        _ = tiny(folder, loading).splits
    assert torch.equal(tiny(folder, loading, on_error="skip").splits.test.targets, torch.tensor([1, 1, 0]))
    assert "left out 1 image " in caplog.text
    (folder / "val/val_annotations.txt").write_text("val_0.JPEG\tn1\t\nval_1.JPEG\tn9\t\n")
    with pytest.raises(CarltError, match=r"val_annotations.txt, line 2: .*is not `<file> <wnid> <box>`"):
        _ = tiny(folder, loading).splits


@pytest.mark.parametrize("name", ["wnids.txt", "val/val_annotations.txt"])
def test_texts_that_are_none(name, folder, loading):
    (folder / name).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CarltError, match=rf"{name} is not UTF-8 text: .*prepare"):
        _ = tiny(folder, loading).splits
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(CarltError, match=rf"{name} cannot be read \(it is no regular file\): .*prepare"):
        _ = tiny(folder, loading).splits
    (folder / name).unlink()
    with open(folder / name, "wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(CarltError, match=rf"{name} cannot be read \(it is larger than 64 MiB\): .*prepare"):
        _ = tiny(folder, loading).splits


@pytest.mark.parametrize("listed", ["n1 n1", "n1 ../../n2"])
def test_classes_that_are_none(listed, folder, loading):
    (folder / "wnids.txt").write_text(listed)
    with pytest.raises(CarltError, match=r"wnids.txt lists a class twice, or one that is no name of a folder"):
        _ = tiny(folder, loading).splits


def test_another_archive_is_unpacked_only_if_that_is_meant(tmp_path, loading):
    with zipfile.ZipFile(tmp_path / "tiny-imagenet-200.zip", "w") as archive:
        archive.writestr("tiny-imagenet-200/wnids.txt", "n1")
    with pytest.raises(CarltError, match=r"tiny-imagenet-200.zip is not the official file .*data.official=false"):
        obtain(*TinyImageNetLT(root=tmp_path, **loading).downloads())
    obtain(*TinyImageNetLT(root=tmp_path, official=False, **loading).downloads())
    assert (tmp_path / "tiny-imagenet-200" / "wnids.txt").read_text() == "n1"


def test_names_need_no_words(folder, loading):
    (folder / "words.txt").unlink()
    assert tiny(folder, loading).class_names == ["n2", "n1"]


def test_what_prepare_would_take_for_ready_is_to_be_removed(folder, loading):
    root = folder.parent
    assert folder.name == "tiny-imagenet-200"
    again = rf"remove {folder} and run `python -m carlt.prepare data=tiny_imagenet_lt data.root={root}`"
    shutil.rmtree(folder / "train" / "n1")
    with pytest.raises(CarltError, match=again):
        _ = tiny(folder, loading).splits
    (folder / "wnids.txt").unlink()
    with pytest.raises(CarltError, match=again):
        _ = tiny(folder, loading).splits
