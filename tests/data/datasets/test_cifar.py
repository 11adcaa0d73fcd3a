"""CIFAR-LT out of archives made here: what is read, and what is refused."""

import hashlib
import io
import itertools
import os
import pickle
import tarfile

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from carlt.data import CIFAR10LT, CIFAR100LT
from carlt.data.datasets import cifar
from carlt.data.datasets.png_folders import read_class_folders
from carlt.data.io.unpickle import read_pickle
from carlt.errors import CarltError


@pytest.fixture(scope="module")
def archive(cifar100_archive, tmp_path_factory):
    rng = np.random.default_rng(0)
    labels = [c for c in range(100) for _ in range(6)]
    images = rng.integers(0, 256, (len(labels), 3, 32, 32), dtype=np.uint8)
    path = tmp_path_factory.mktemp("cifar") / "cifar-100-python.tar.gz"
    return cifar100_archive(path, (images, labels), (images[::6], labels[::6])), images


def test_pixels_and_counts(archive, loading):
    path, images = archive
    data = CIFAR100LT(root=path.parent, official=False, imbalance_factor=6, subset="first", **loading)
    assert data.class_counts.tolist() == [int(6 * (1 / 6) ** (c / 99)) for c in range(100)]
    assert data.class_names[99] == "class 99"
    assert np.array_equal(data.splits.train.images.pixels[:6].numpy(), images[:6])
    assert len(data.splits.test) == 100
    assert data.val_split is None


def test_cifar10_is_read_out_of_all_its_batches(loading, tmp_path):
    """The five batches of the published archive one after the other, in ``cifar-10-batches-py/``."""
    pixels = np.random.default_rng(0).integers(0, 256, (70, 3072), dtype=np.uint8)
    files = {f"data_batch_{i + 1}": (pixels[10 * i : 10 * i + 10], list(range(10))) for i in range(5)}
    files["test_batch"] = pixels[50:], [*range(10)] * 2
    contents = {name: {b"data": data, b"labels": labels} for name, (data, labels) in files.items()}
    contents["batches.meta"] = {b"label_names": [b"plane", *(b"class %d" % c for c in range(1, 10))]}
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    data = CIFAR10LT(root=tmp_path, official=False, imbalance_factor=1, subset="first", **loading)
    assert data.class_counts.tolist() == [5] * 10
    assert data.class_names[0] == "plane"
    by_class = pixels[:50].reshape(5, 10, 3, 32, 32).swapaxes(0, 1).reshape(50, 3, 32, 32)
    assert np.array_equal(data.splits.train.images.pixels.numpy(), by_class)
    assert data.splits.test.targets.tolist() == [*range(10)] * 2
    assert data.downloads() == []
    (download,) = CIFAR10LT(root=tmp_path / "empty", **loading).downloads()
    assert download.result == tmp_path / "empty" / "cifar-10-python.tar.gz"


def test_an_unpacked_folder_will_do(archive, loading, tmp_path):
    with tarfile.open(archive[0]) as tar:
        tar.extractall(tmp_path, filter="data")
    packed, unpacked = (
        CIFAR100LT(root=root, official=False, imbalance_factor=6, **loading) for root in (archive[0].parent, tmp_path)
    )
    assert unpacked.checksum() == packed.checksum()


def test_validation_from_unused_images(archive, loading):
    few = {"imbalance_factor": 4, "largest_class": 4, "val_per_class": 2}
    data = CIFAR100LT(root=archive[0].parent, official=False, **few, **loading)
    assert data.val_split.targets.bincount().tolist() == [2] * 100


def test_unofficial_data_are_refused_unless_meant(archive, loading, tmp_path):
    with pytest.raises(
        CarltError, match=r"tar.gz is not the official file \(sha256: expected 85cd.*data.official=false"
    ):
        _ = CIFAR100LT(root=archive[0].parent, **loading).splits
    with tarfile.open(archive[0]) as tar:
        tar.extractall(tmp_path, filter="data")
    with pytest.raises(
        CarltError, match=r"train is not the official file \(md5: expected 16019d7e.*data.official=false"
    ):
        _ = CIFAR100LT(root=tmp_path, **loading).splits


def test_every_file_of_an_unpacked_folder_is_compared(archive, loading, tmp_path, monkeypatch):
    """With the digests of these files in the place of the published ones; one more byte, and the file is another."""
    with tarfile.open(archive[0]) as tar:
        tar.extractall(tmp_path, filter="data")
    folder, published = tmp_path / CIFAR100LT.folder, torchvision.datasets.CIFAR100
    md5 = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    monkeypatch.setattr(published, "train_list", [["train", md5["train"]]])
    monkeypatch.setattr(published, "test_list", [["test", md5["test"]]])
    monkeypatch.setattr(published, "meta", {"filename": "meta", "md5": md5["meta"]})
    with pytest.raises(CarltError, match="images: expected 50000, found 600; smallest: expected 500, found 6"):
        _ = CIFAR100LT(root=tmp_path, **loading).splits
    for name in md5:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content + b"\0")
        with pytest.raises(CarltError, match=rf"{name} is not the official file \(md5: expected {md5[name]}"):
            _ = CIFAR100LT(root=tmp_path, **loading).splits
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("cls", [CIFAR10LT, CIFAR100LT])
def test_torchvision_has_a_digest_of_every_file(cls):
    of = getattr(torchvision.datasets, cls.published)
    assert of.base_folder == cls.folder
    names = [*cls.train_files, *cls.test_files, cls.names_file]
    assert [*(name for name, _ in (*of.train_list, *of.test_list)), of.meta["filename"]] == names


def test_missing_and_damaged_archives(archive, loading, tmp_path):
    with pytest.raises(CarltError, match=r"cifar10_lt not found at .*python -m carlt.prepare data=cifar10_lt"):
        _ = CIFAR10LT(root=tmp_path, **loading).splits
    (tmp_path / "cifar-100-python.tar.gz").write_bytes(archive[0].read_bytes()[:2000])
    with pytest.raises(CarltError, match="cannot be read"):
        _ = CIFAR100LT(root=tmp_path, official=False, **loading).splits


class Malice:
    """Its pickle makes the folder ``path`` where it is loaded without care."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("wrap", [lambda content: content, lambda content: {b"data": content}])
def test_pickles_are_not_trusted(wrap, tmp_path):
    path = tmp_path / "was-here"
    with pytest.raises(CarltError, match=r"names posix\.mkdir"):
        read_pickle(pickle.dumps(wrap(Malice(path))), "data_batch_1")
    assert not path.exists()
    pickle.loads(pickle.dumps(wrap(Malice(path))))
    assert path.exists()  # as pickle alone would have done


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (pickle.dumps({b"data": np.zeros(3, object)}), "holds an array of O"),
        (pickle.dumps({b"data": np.zeros(3, np.float32)}), "holds an array of f4"),
        (pickle.dumps({b"data": np.zeros(3, np.uint8)})[:-20], "not a CIFAR batch"),
        (b"", "not a CIFAR batch"),
        (b"\x80\2\x8e" + (1 << 40).to_bytes(8, "little") + b"x", "not a CIFAR batch"),  # says a length of 1 TiB
        (pickle.dumps([1, 2]), "not a CIFAR batch"),
        (pickle.dumps(bytearray(9), 2), "it calls __builtin__.bytearray"),
        (b"\x80\2)" + 60 * b"2\x86" + b".", "it has DUP"),  # a tuple of 2^60 parts
    ],
)
def test_pickles_of_something_else_are_refused(content, complaint):
    with pytest.raises(CarltError, match=complaint):
        read_pickle(content, "data_batch_1")


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_arrays_of_bytes_are_read(protocol):
    array = np.arange(24, dtype=np.uint8).reshape(2, 12)
    content = pickle.dumps({b"data": array, b"labels": [1, 2], b"names": [b"a"]}, protocol=protocol)
    entries = read_pickle(content, "batch")
    assert np.array_equal(entries[b"data"], array)
    assert (entries[b"labels"], entries[b"names"]) == ([1, 2], [b"a"])


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_either_order_are_read(order):
    array = np.asarray(np.arange(24, dtype=np.uint8).reshape(2, 12), order=order)
    assert np.array_equal(read_pickle(pickle.dumps({b"data": array}, protocol=2), "batch")[b"data"], array)


def write(folder, **files):
    with tarfile.open(folder / "cifar-100-python.tar.gz", "w:gz") as tar:
        for name, content in files.items():
            data = pickle.dumps(content, protocol=2)
            info = tarfile.TarInfo(f"cifar-100-python/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize(
    ("train", "complaint"),
    [
        ({b"data": np.zeros((2, 3072), np.uint8)}, "has no entry fine_labels"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"fine_labels": [0]}, r"images \(2, 3072\) and 1 labels"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"fine_labels": [0, 2]}, "a label outside 0 to 1"),
        (None, "cannot be read"),
    ],
)
def test_wrong_batches(tmp_path, loading, train, complaint):
    files = {"meta": {b"fine_label_names": [b"a", b"b"]}, "test": {}} | ({"train": train} if train else {})
    write(tmp_path, **files)
    with pytest.raises(CarltError, match=complaint):
        _ = CIFAR100LT(root=tmp_path, official=False, **loading).splits


IMAGES = np.zeros((2, 3072), np.uint8)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"train": {b"data": [1, 2], b"fine_labels": [0, 1]}}, "train has no array of images, or no list of labels"),
        ({"train": {b"data": b"xx", b"fine_labels": [0, 1]}}, "train has no array of images, or no list of labels"),
        ({"train": {b"data": None, b"fine_labels": None}}, "train has no array of images, or no list of labels"),
        ({"train": {b"data": IMAGES, b"fine_labels": 5}}, "train has no array of images, or no list of labels"),
        ({"train": {1: 2, b"x": 3}}, r"has no entry data; it holds \['1', \"b'x'\"\]"),
        ({"meta": {b"fine_label_names": 3}}, "meta: fine_label_names is no list of names"),
        ({"meta": {b"fine_label_names": None}}, "meta: fine_label_names is no list of names"),
        ({"meta": {b"fine_label_names": b"ab"}}, "meta: fine_label_names is no list of names"),
        ({"meta": {b"fine_label_names": [1, 2]}}, "meta: fine_label_names is no list of names"),
        ({"meta": {b"fine_label_names": [b"\xff\xfe", b"b"]}}, "meta: fine_label_names is no list of names"),
        ({"train": "a folder"}, "train at .* cannot be read .*no regular file.*remove .*cifar-100-python and run"),
        ({"train": "a pipe"}, "train at .* cannot be read .*no regular file.*remove .*cifar-100-python and run"),
        ({"train": "large"}, "train at .* cannot be read .*larger than 1024 MiB.*remove .*cifar-100-python and run"),
    ],
)
def test_damaged_files_of_a_folder(tmp_path, loading, changed, complaint):
    batch = {b"data": IMAGES, b"fine_labels": [0, 1]}
    folder = tmp_path / CIFAR100LT.folder
    folder.mkdir()
    files = {"meta": {b"fine_label_names": [b"a", b"b"]}, "train": batch, "test": batch}
    for name, content in (files | changed).items():
        if content == "a folder":
            (folder / name).mkdir()
        elif content == "a pipe":
            os.mkfifo(folder / name)
        elif content == "large":
            with open(folder / name, "wb") as file:
                file.truncate(cifar.MAX_BYTES + 1)
        else:
            (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(CarltError, match=complaint):
        _ = CIFAR100LT(root=tmp_path, official=False, **loading).splits


def test_an_archive_that_is_none(archive, tmp_path, loading, monkeypatch):
    place = tmp_path / CIFAR100LT.archive
    os.mkfifo(place)
    with pytest.raises(CarltError, match=r"tar.gz is no regular file"):
        _ = CIFAR100LT(root=tmp_path, official=False, **loading).splits
    place.unlink()
    damaged = bytearray(archive[0].read_bytes())
    damaged[5000:5060] = bytes(60)
    place.write_bytes(damaged)
    with pytest.raises(CarltError, match=r"tar.gz cannot be read \(.+\); remove it"):
        _ = CIFAR100LT(root=tmp_path, official=False, **loading).splits
    place.write_bytes(archive[0].read_bytes())
    monkeypatch.setattr(cifar, "MAX_BYTES", 1000)
    with pytest.raises(CarltError, match=r"cifar-100-python/train is no file, or larger than 0 MiB"):
        _ = CIFAR100LT(root=tmp_path, official=False, **loading).splits


def test_batches_are_of_bytes(archive, loading):
    data = CIFAR100LT(root=archive[0].parent, official=False, imbalance_factor=6, **loading)
    images, targets, *_ = next(iter(data.train_dataloader()))
    assert (images.dtype, images.shape, targets.dtype) == (torch.uint8, (8, 3, 32, 32), torch.int64)


@pytest.fixture
def png_folders(archive, tmp_path):
    """The images of the archive as ``train/<class>/<i>.png``, half of the classes below a super-class."""
    for part, images in (("train", archive[1]), ("test", archive[1][::6])):
        per_class = len(images) // 100
        for index, pixels in enumerate(images):
            label = index // per_class
            place = tmp_path / part / ("even" if label % 2 == 0 else "") / str(label)
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.transpose(1, 2, 0)).save(place / f"{index:04}.png")
    return tmp_path


def test_folders_of_png_files_are_the_same_data(archive, png_folders, loading, caplog):
    loading["num_workers"] = 2
    data = CIFAR100LT(root=png_folders, official=False, imbalance_factor=6, **loading)
    packed = CIFAR100LT(root=archive[0].parent, official=False, imbalance_factor=6, **loading)
    assert data.checksum() == packed.checksum()
    assert data.class_names == [str(label) for label in range(100)]  # sorted as numbers: 2 before 10
    assert data.downloads() == []
    assert "data.subset=ldam keeps other images than from the archive" in caplog.text


def test_one_number_in_two_forms_has_one_order(tmp_path):
    for part, name in itertools.product(("train", "test"), ("1", "01", "001", "0")):
        (tmp_path / part / name).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(tmp_path / part / name / "x.png")
    assert read_class_folders(tmp_path, 32, 0, "raise")[2] == ["0", "001", "01", "1"]


def test_folders_that_are_not_cifar_are_refused(png_folders, loading):
    def load(cls=CIFAR100LT, **options):
        return cls(root=png_folders, **loading, **options).splits

    with pytest.raises(CarltError, match=r"is not the official split .*images: expected 50000, found 600"):
        load()
    with pytest.raises(CarltError, match=r"is not the official split .*classes: expected 10, found 100"):
        load(CIFAR10LT)
    Image.new("RGB", (28, 28)).save(png_folders / "train/1/x.png")
    with pytest.raises(CarltError, match=r"train/1/x.png has 28 x 28 pixels, not 32 x 32: it is of another data set"):
        load(official=False)
    (png_folders / "train/1/y.png").write_bytes(b"no image")
    assert len(load(official=False, imbalance_factor=1, on_error="skip").train) == 600
    (png_folders / "train" / "frog").mkdir()
    Image.new("RGB", (32, 32)).save(png_folders / "train/frog/x.png")
    with pytest.raises(CarltError, match=r"the class folders of train/ and test/ differ, in frog"):
        load(official=False)
