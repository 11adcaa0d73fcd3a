"""A practitioner's folder, the whole road: prepare, train, report, predict, export."""

import csv
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import Command

from carlt.runs.examples import read_examples
from carlt.runs.record import read_per_class, read_result

pytestmark = pytest.mark.usefixtures("no_plots")


def picture(seed: int, width: int = 40, height: int = 30) -> Image.Image:
    patches = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize((width, height), Image.Resampling.BICUBIC)


def save(image: Image.Image, path: Path, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with every mode and size, nested folders, stray files, odd names and rare classes."""
    root = tmp_path / "photos"
    every: dict[str, Callable[[Image.Image], Image.Image]] = {
        "grey.png": lambda image: image.convert("L"),
        "rgba.png": lambda image: image.convert("RGBA"),
        "grey with alpha.png": lambda image: image.convert("LA"),
        "palette.png": lambda image: image.quantize(),
        "ink.jpg": lambda image: image.convert("CMYK"),
        "deep.png": lambda image: Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257),
        "two tones.png": lambda image: image.convert("1"),
        "frames.gif": lambda image: image,
        "tiny.webp": lambda image: image.resize((3, 2)),
        "long.png": lambda image: image.resize((500, 4)),
    }
    for number, (name, change) in enumerate(every.items()):
        save(change(picture(number)), root / "train" / "grèbe 白鷺" / name)
    exif = Image.Exif()
    exif[0x0112] = 6
    save(picture(50), root / "train" / "grèbe 白鷺" / "turned.jpg", exif=exif)
    for i in range(12):
        save(picture(100 + i), root / "train" / "heron" / "2024" / "may" / f"{i}.JPG", format="jpeg")
    for i in range(3):
        save(picture(200 + i), root / "train" / "rare = <owl> $x$" / f"{i}.png")
    for name in ("grèbe 白鷺", "heron"):  # none of the rare class
        for i in range(2):
            save(picture(300 + i), root / "test" / name / f"{i}.png")
    (root / "train" / "stray.jpg").write_bytes(b"no image")
    (root / "train" / "heron" / "notes.txt").write_text("no image")
    (root / "train" / "heron" / "._0.jpg").write_bytes(b"what macOS leaves behind")
    (root / "train" / "heron" / "Thumbs.db").write_bytes(b"what Windows leaves behind")
    return root


def test_the_whole_road(photos: Path, tmp_path: Path, command: Command) -> None:
    folder = tmp_path / "run"
    data = ("data=image_folder", f"data.root={photos}", "data.image_size=16", "data.num_workers=0", "model=small_cnn")
    code, said, _ = command("prepare", *data, "verify=full", f"out={tmp_path}")
    assert code == 0
    assert "image_folder: 3 classes" in said
    assert "near-empty: 1 class with fewer than 5 training images: rare = <owl> $x$ (3)" in said
    assert "1 class has no test images" in said
    short = ("trainer.max_epochs=1", "trainer.accelerator=cpu", "data.batch_size=8", f"hydra.run.dir={folder}")
    assert command("train", *data, *short, "loss=balanced_softmax", "reg=car")[0] == 0
    result = read_result(folder)
    assert sum(result["class_counts"]) + result["data"]["images"]["val"] == 26
    (rare,) = [row for row in read_per_class(folder) if row.class_name == "rare = <owl> $x$"]
    assert (rare.train_count, rare.test_count) == (3, 0)
    examples = read_examples(folder)  # sheets in colour, of whatever size the files have
    assert examples is not None
    assert examples.images.shape[2:4] == (2, 3)
    assert (examples.captions[:, 0, 0] != "").all()
    assert examples.images.any()
    assert command("report", folder, f"out={tmp_path / 'report'}")[0] == 0

    output = tmp_path / "found.csv"
    code, _, errors = command("predict", f"run={folder}", f"images={photos}", f"output={output}", "device=cpu")
    assert code == 1
    assert "stray.jpg cannot be decoded" in errors
    rows = list(csv.DictReader(output.read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 31
    assert [Path(row["path"]).name for row in rows if row["error"]] == ["stray.jpg"]
    assert {row["class_1"] for row in rows if not row["error"]} <= {"grèbe 白鷺", "heron", "rare = <owl> $x$"}

    assert command("export", f"run={folder}", "format=safetensors")[0] == 0
    facts = json.loads((folder / "export" / "network.json").read_text(encoding="utf-8"))
    assert facts["class_names"] == ["grèbe 白鷺", "heron", "rare = <owl> $x$"]
    card = (folder / "export" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert r"1 class has no test image, so the accuracy is unknown: rare = &lt;owl> \$x\$." in card


@pytest.mark.slow
def test_964_classes_of_20_greyscale_drawings_train(tmp_path: Path, command: Command) -> None:
    """The shape of Omniglot's background set: black strokes on white, 105 x 105 pixels with one bit each, below the
    folder of an alphabet."""
    for label in range(964):
        draw = np.random.default_rng(label)
        corners = draw.integers(10, 95, (6, 2))
        for i in range(20):
            drawing = np.full((105, 105), 255, np.uint8)
            for start, end in itertools.pairwise(corners):
                points = np.linspace(start, end, 100) + draw.normal(0, 1, 2)
                rows, columns = points.round().astype(int).clip(1, 103).T
                for shift in (-1, 0, 1):
                    drawing[rows + shift, columns] = drawing[rows, columns + shift] = 0
            place = tmp_path / "omniglot" / f"alphabet {label % 30}" / f"character{label:03}"
            save(Image.fromarray(drawing).convert("1"), place / f"{i:02}.png")
    folder = tmp_path / "run"
    words = ("data=image_folder", f"data.root={tmp_path / 'omniglot'}", "data.class_depth=2", "data.image_size=32",
             "data.in_memory=true", "data.imbalance_factor=5", "model=resnet8", "aug=none", "reg=car", "optim.lr=0.1",
             "trainer.max_epochs=6", "trainer.accelerator=cpu", f"hydra.run.dir={folder}")  # fmt: skip
    assert command("train", *words)[0] == 0
    result = read_result(folder)
    assert result["num_classes"] == 964
    assert (max(result["class_counts"]), min(result["class_counts"])) == (14, 2)
    assert result["metrics"]["test/accuracy"] > 20 / 964  # twenty times chance


def test_a_damaged_test_image_costs_no_training(photos: Path, tmp_path: Path, command: Command) -> None:
    """The error comes after the last epoch; the run is finished without the image, and trains nothing anew."""
    folder, damaged = tmp_path / "run", photos / "test" / "heron" / "0.png"
    damaged.write_bytes(b"no image")
    data = ("data=image_folder", f"data.root={photos}", "data.image_size=16", "data.num_workers=0", "model=small_cnn")
    short = ("trainer.max_epochs=1", "trainer.accelerator=cpu", f"hydra.run.dir={folder}", "loss=ce", "reg=none")
    code, _, errors = command("train", *data, *short)
    assert code == 2
    assert "data.on_error=skip. All epochs are trained and saved; with that mended, finish with: " in errors
    weights = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert command("train", f"resume={folder}", "data.on_error=skip")[0] == 0
    assert sum(row.test_count for row in read_per_class(folder)) == 3
    after = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(after[name], weights[name]) for name in weights)


def test_a_run_is_not_resumed_without_images_that_it_trained_on(photos: Path, tmp_path: Path, command: Command) -> None:
    folder = tmp_path / "run"
    data = ("data=image_folder", f"data.root={photos}", "data.image_size=16", "data.num_workers=0", "model=small_cnn")
    short = ("trainer.max_epochs=1", "trainer.accelerator=cpu", f"hydra.run.dir={folder}", "loss=ce", "reg=none")
    assert command("train", *data, *short)[0] == 0
    (photos / "train" / "heron" / "2024" / "may" / "0.JPG").write_bytes(b"no image")
    code, _, errors = command("train", f"resume={folder}", "data.on_error=skip", "trainer.max_epochs=2")
    assert code == 2
    assert "are not those that the run began with" in errors
