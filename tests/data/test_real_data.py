"""On real data: official lists pass, and the same images train alike through three data modules.

CARLT_REAL_DATA is a folder with ``splits/`` (the official lists) and ``tiny-imagenet-half.tar`` (100 classes).
"""

import hashlib
import io
import json
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from carlt.commands import prepare
from carlt.data import CIFAR100LT, ImageFolder, ImageNetLT, INaturalist2018, PlacesLT, TinyImageNetLT
from carlt.data.datasets.in_memory import decode_all
from carlt.data.facts import check_digest
from carlt.data.io.lists import read_list
from carlt.errors import CarltError

OFFICIAL = [(ImageNetLT, "val"), (ImageNetLT, "test"), (PlacesLT, "train"), (PlacesLT, "val"), (PlacesLT, "test")]


@pytest.mark.parametrize(("cls", "split"), [*OFFICIAL, (INaturalist2018, "test")])
def test_official_lists_have_the_official_facts(real_data, loading, cls, split):
    data = cls(lists=real_data / "splits", verify="lists", **loading)
    records = data.records(split)
    assert len(records) == cls.facts[split].images


def test_places_as_a_whole(real_data, loading):
    data = PlacesLT(lists=real_data / "splits", verify="lists", **loading)
    assert data.class_counts.sum() == 62_500
    assert data.class_names[0] == "airfield"
    paths = data.splits.val.images.paths.tolist()
    assert not set(paths) & set(data.splits.train.images.paths.tolist())


def test_the_second_variant_of_places_is_the_first_rewritten(real_data, tmp_path):
    """Its published digest, so the rewriting is understood to the byte."""
    rows = (real_data / "splits/Places_LT_train.txt").read_text().splitlines()
    second = [row.replace("train/", f"data_256/{row[6]}/", 1).replace("-", "/") + "\n" for row in rows]
    (tmp_path / "list.txt").write_text("".join(second))
    check_digest(tmp_path / "list.txt", PlacesLT.sha256["train"])


def test_the_flat_variant_of_imagenets_test_list(real_data, tmp_path):
    rows = (real_data / "splits/ImageNet_LT_test.txt").read_text().splitlines()
    (tmp_path / "list.txt").write_text("".join(f"val/{row.split('/')[2]}\n" for row in rows))
    assert hashlib.sha256((tmp_path / "list.txt").read_bytes()).hexdigest() in ImageNetLT.sha256["test"]


def test_imagenet_of_the_official_counts(real_data, loading, tmp_path):
    """A training list of the official counts and the validation list's classes has all of ImageNet-LT's facts."""
    counts = json.loads((real_data / "splits/ImageNet_LT_train_class_counts.json").read_text())
    val = read_list(real_data / "splits/ImageNet_LT_val.txt", 1000)
    wnids = {
        label: path.split(b"/")[1].decode() for label, path in zip(val.labels.tolist(), val.paths.tolist(), strict=True)
    }
    rows = [f"train/{wnids[c]}/{wnids[c]}_{i}.JPEG {c}\n" for c, n in enumerate(counts) for i in range(n)]
    (tmp_path / "ImageNet_LT_train.txt").write_text("".join(rows))
    for name in ("ImageNet_LT_val.txt", "ImageNet_LT_test.txt"):
        (tmp_path / name).write_bytes((real_data / "splits" / name).read_bytes())

    known = {split: digests for split, digests in ImageNetLT.sha256.items() if split != "train"}
    data = type("MadeUp", (ImageNetLT,), {"sha256": known})(lists=tmp_path, verify="lists", **loading)
    assert data.class_counts.tolist() == counts
    assert data.class_names[0] == "n01440764 tench"
    assert len(set(data.class_names)) == 1000


@pytest.fixture(scope="module")
def as_cifar100(tiny_imagenet, cifar100_archive, tmp_path_factory):
    """CIFAR-100's archive format with the real images at 32 x 32: 500 training and 50 test images a class."""
    view = {"view": None, "eval_view": None, "image_size": 32, "num_workers": 2}
    tiny = TinyImageNetLT(root=tiny_imagenet, num_classes=100, imbalance_factor=100, **view)
    wnids = tiny._wnids()
    train, test = (decode_all(split, 32, 2) for split in (tiny._train(wnids), tiny._test(wnids, wnids)))
    pairs = [(split.images.pixels.numpy(), split.targets.tolist()) for split in (train, test)]
    return cifar100_archive(tmp_path_factory.mktemp("cifar") / "cifar-100-python.tar.gz", *pairs)


@pytest.mark.slow
def test_the_same_images_through_tiny_imagenet_and_cifar(tiny_imagenet, as_cifar100, loading):
    tiny = TinyImageNetLT(root=tiny_imagenet, num_classes=100, **loading)
    cifar = CIFAR100LT(root=as_cifar100.parent, official=False, **loading)
    assert cifar.class_counts.tolist() == tiny.class_counts.tolist()
    assert tiny.class_counts.sum() == 10_847
    assert torch.equal(cifar.splits.train.images.pixels, tiny.splits.train.images.pixels)
    assert tiny.checksum() == cifar.checksum()


@pytest.mark.slow
def test_full_verification_of_55000_images(tiny_imagenet, loading, tmp_path):
    data = ImageFolder(root=tiny_imagenet / "tiny-imagenet-200/train", verify="full", **loading | {"num_workers": 2})
    splits = prepare.prepare(data, "full", out=tmp_path)
    assert [len(split) for split in (splits.train, splits.val, splits.test)] == [35_000, 5_000, 10_000]


@pytest.mark.slow
@pytest.mark.parametrize("through", ["tiny_imagenet_lt", "image_folder", "cifar100_lt"])
def test_two_epochs_and_evaluation(run, tiny_imagenet, as_cifar100, tmp_path, through):
    options = {
        "tiny_imagenet_lt": [f"data.root={tiny_imagenet}", "data.num_classes=100"],
        "image_folder": [f"data.root={tiny_imagenet}/tiny-imagenet-200/train", "data.imbalance_factor=100"],
        "cifar100_lt": [f"data.root={as_cifar100.parent}", "data.official=false"],
    }[through]
    small = [
        "data.image_size=32",
        "data.batch_size=128",
        "data.num_workers=2",
    ]
    result = run(
        tmp_path / "run", f"data={through}", "model=resnet8", "trainer.max_epochs=2", "optim.lr=0.1", *options, *small
    )
    assert result["metrics"]["test/accuracy"] > 0.02  # twice chance
    assert np.isfinite(list(result["metrics"].values())).sum() > 5


@pytest.mark.slow
def test_cifar100_as_png_files_is_the_official_data(real_data, loading, tmp_path):
    """All 60,000 images, written as PNG class folders and as the pickles of the archive, are one data set."""
    with np.load(real_data / "cifar100.npz") as packed:
        names = packed["class_names"].tolist()
        for part in ("train", "test"):
            blob, ends = packed[f"{part}_webp"].tobytes(), packed[f"{part}_offsets"].tolist()
            for name in names:
                (tmp_path / part / name).mkdir(parents=True)
            counts = dict.fromkeys(names, 0)
            for start, end, label in zip(ends[:-1], ends[1:], packed[f"{part}_labels"].tolist(), strict=True):
                name = names[label]
                with Image.open(io.BytesIO(blob[start:end])) as image:
                    image.save(tmp_path / part / name / f"{counts[name]:04}.png", compress_level=1)
                counts[name] += 1
    subprocess.run([sys.executable, real_data / "unpack_cifar100.py", tmp_path / "packed"], check=True)
    began = time.monotonic()
    data = CIFAR100LT(root=tmp_path, **loading | {"num_workers": 2})
    assert len(data.splits.train) == 10_847
    print(f"read in {time.monotonic() - began:.1f} s")
    with pytest.raises(CarltError, match=r"train is not the official file \(md5: expected 16019d7e"):  # another order
        _ = CIFAR100LT(root=tmp_path / "packed", **loading).splits
    packed = CIFAR100LT(root=tmp_path / "packed", official=False, **loading)
    assert data.class_names == packed.class_names == names
    assert data.checksum() == packed.checksum()
