"""Small fake data sets in the layouts of the real ones, and the real data where CARLT_REAL_DATA says it is."""

import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from carlt.aug import CropFlip, Resize


@pytest.fixture
def loading() -> dict[str, Any]:
    """What every data module is given here."""
    return {
        "view": CropFlip(32),
        "eval_view": Resize(32),
        "image_size": 32,
        "batch_size": 8,
        "num_workers": 0,
    }


@pytest.fixture(scope="session", name="picture")
def picture_fixture() -> Callable[..., Image.Image]:
    """``picture(seed, width, height)``."""
    return picture


@pytest.fixture(scope="session", name="make_folder")
def make_folder_fixture() -> Callable[..., Path]:
    """``make_folder(root, counts)``."""
    return make_folder


@pytest.fixture(scope="session", name="cifar100_archive")
def cifar100_archive_fixture() -> Callable[..., Path]:
    """``cifar100_archive(path, train, test)``."""
    return cifar100_archive


def picture(seed: int = 0, width: int = 64, height: int = 48) -> Image.Image:
    """A smooth picture, as photographs are."""
    patches = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize((width, height), Image.Resampling.BICUBIC)


def make_folder(root: Path, counts: dict[str, int]) -> Path:
    """``root/<class>/<i>.jpg``, as many as ``counts`` says; a class may hold a slash."""
    for label, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for i in range(count):
            picture(100 * label + i).save(root / name / f"{i}.jpg")
    return root


def cifar100_archive(path: Path, train: tuple[np.ndarray, list[int]], test: tuple[np.ndarray, list[int]]) -> Path:
    """An archive in CIFAR-100's format of uint8 images (N, 3, 32, 32) and labels; 100 class names."""
    files = {
        "meta": {b"fine_label_names": [b"class %d" % c for c in range(100)]},
        "train": {b"data": train[0].reshape(len(train[0]), -1), b"fine_labels": train[1]},
        "test": {b"data": test[0].reshape(len(test[0]), -1), b"fine_labels": test[1]},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, content in files.items():
            data = pickle.dumps(content, protocol=2)
            info = tarfile.TarInfo(f"cifar-100-python/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real data (``splits/``, ``tiny-imagenet-half.tar``)."""
    folder = os.environ.get("CARLT_REAL_DATA")
    if not folder:
        pytest.skip("the real data are not in the repository: set CARLT_REAL_DATA to their folder")
    return Path(folder)


@pytest.fixture(scope="session")
def tiny_imagenet(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real Tiny-ImageNet half, unpacked: a folder with ``tiny-imagenet-200/``."""
    folder = tmp_path_factory.mktemp("tiny")
    with tarfile.open(real_data / "tiny-imagenet-half.tar") as tar:
        tar.extractall(folder, filter="data")
    return folder
