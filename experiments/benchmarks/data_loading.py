"""Loading speed and memory beside torchvision's, in one run; writes data_loading.md next to this file.

    CARLT_REAL_DATA=<folder with tiny-imagenet-half.tar> python experiments/benchmarks/data_loading.py

Speeds are images per second of CPU time of one process with one thread, so that other load on the machine does not
count; both sides shuffle, load, augment, batch and end in normalised float32. The median of five alternating
rounds.
"""

import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL
import torch
import torchvision
from data_memory import worker_growth
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from carlt.aug import CropFlip, Resize, ResizedCropFlip
from carlt.data import ImageFolder, INaturalist2018, TinyImageNetLT, decode
from carlt.data.images import Split

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RECORDS, CLASSES, BATCH = 437_513, 8_142, 128
PHOTOS = 384


def normalised(images: Tensor) -> Tensor:
    """What the module does to a uint8 batch."""
    mean, std = (torch.tensor(v).view(3, 1, 1) * 255 for v in (MEAN, STD))
    return images.float().sub_(mean).div_(std)


def rate(batches: Iterator) -> float:
    """Images per second of this process's CPU time."""
    next(batches)  # start-up is no throughput
    began, images = time.process_time(), 0
    for batch, _ in batches:
        images += len(normalised(batch) if batch.dtype == torch.uint8 else batch)
    return images / (time.process_time() - began)


def compare(theirs: object, ours: object) -> tuple[float, float]:
    """Median rates over five rounds, one after the other."""
    rounds = [(rate(iter(theirs)), rate(iter(ours))) for _ in range(5)]
    return statistics.median(t for t, _ in rounds), statistics.median(o for _, o in rounds)


class ArrayDataset(Dataset):
    """torchvision.datasets.CIFAR100's way: an array, each item a Pillow image through transforms."""

    def __init__(self, pixels: np.ndarray, targets: list[int], transform: v2.Compose):
        self.pixels, self.targets, self.transform = pixels, targets, transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.targets[index]


def small_images(tiny: Path) -> tuple[float, float]:
    """10,847 real images of 32 x 32: crop by 4, flip, normalise."""
    data = TinyImageNetLT(
        root=tiny, num_classes=100, view=CropFlip(32), eval_view=Resize(32), image_size=32, batch_size=BATCH
    )
    train = data.splits.train
    transform = torchvision.transforms.Compose(
        [
            torchvision.transforms.RandomCrop(32, 4),
            torchvision.transforms.RandomHorizontalFlip(),
            torchvision.transforms.ToTensor(),
            torchvision.transforms.Normalize(MEAN, STD),
        ]
    )
    pixels = train.images.pixels.permute(0, 2, 3, 1).contiguous().numpy()
    theirs = DataLoader(ArrayDataset(pixels, train.targets.tolist(), transform), BATCH, shuffle=True)
    return compare(theirs, data.train_dataloader())


def photographs(tiny: Path, folder: Path) -> int:
    """Pictures of 500 x 375 out of 8 x 6 real images each, quality 90, in two classes; their mean size in bytes."""
    sources = sorted((tiny / "tiny-imagenet-200/train").glob("*/images/*.JPEG"))
    chosen = np.random.default_rng(0).choice(len(sources), (PHOTOS, 6, 8))
    for number, tiles in enumerate(chosen):
        photo = Image.new("RGB", (512, 384))
        for (row, column), index in np.ndenumerate(tiles):
            with Image.open(sources[index]) as tile:
                photo.paste(tile.convert("RGB"), (64 * column, 64 * row))
        path = folder / "train" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo.crop((6, 4, 506, 379)).save(path, quality=90)
    (folder / "test").symlink_to(folder / "train")
    return sum(path.stat().st_size for path in (folder / "train").rglob("*.jpg")) // PHOTOS


def large_images(folder: Path) -> tuple[float, float]:
    """Decode, RandomResizedCrop(224), flip, normalise."""
    transform = torchvision.transforms.Compose(
        [
            torchvision.transforms.RandomResizedCrop(224),
            torchvision.transforms.RandomHorizontalFlip(),
            torchvision.transforms.ToTensor(),
            torchvision.transforms.Normalize(MEAN, STD),
        ]
    )
    theirs = DataLoader(torchvision.datasets.ImageFolder(folder / "train", transform), 32, shuffle=True)
    options = {"image_size": 224, "batch_size": 32, "num_workers": 0}
    ours = ImageFolder(root=folder, view=ResizedCropFlip(224), eval_view=Resize(224), **options)
    return compare(theirs, ours.train_dataloader())


def epoch_starts(folder: Path) -> list[float]:
    """Seconds from asking for an epoch to its first batch, three epochs with two workers."""
    options = {"image_size": 224, "batch_size": 32, "num_workers": 2}
    loader = ImageFolder(root=folder, view=ResizedCropFlip(224), eval_view=Resize(224), **options).train_dataloader()
    waits = []
    for epoch in range(3):
        loader.set_epoch(epoch)
        began = time.perf_counter()
        for number, _ in enumerate(loader):
            if number == 0:
                waits.append(time.perf_counter() - began)
    return waits


def write_lists(folder: Path) -> None:
    """Lists of iNaturalist 2018's size: 437,513 and 24,426 lines of 60 characters, 8,142 classes."""
    folder.mkdir()
    labels = np.sort(np.random.default_rng(0).integers(0, CLASSES, RECORDS))
    for name, chosen in (("iNaturalist18_train.txt", labels), ("iNaturalist18_val.txt", np.arange(CLASSES).repeat(3))):
        with (folder / name).open("w") as file:
            file.writelines(f"train_val2018/Plantae/{c}/{i:032x}.jpg {c}\n" for i, c in enumerate(chosen.tolist()))


def read_lists(lists: Path) -> tuple[float, Split]:
    """Wall-clock seconds to build the data module and know its counts, the best of three; and the training split."""
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        data = INaturalist2018(
            lists=lists, verify="lists", official=False, view=CropFlip(224), eval_view=Resize(224), validation="none"
        )
        assert data.class_counts.sum() == RECORDS
        seconds.append(time.perf_counter() - began)
    return min(seconds), data.splits.train


def main() -> None:
    """Measure everything and write the record."""
    torch.set_num_threads(1)
    source = Path(os.environ["CARLT_REAL_DATA"]) / "tiny-imagenet-half.tar"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with tarfile.open(source) as tar:
            tar.extractall(folder, filter="data")
        small = small_images(folder)
        size = photographs(folder, folder / "photos")
        large = large_images(folder / "photos")
        waits = epoch_starts(folder / "photos")
        write_lists(folder / "lists")
        seconds, records = read_lists(folder / "lists")
        theirs, ours = worker_growth(records)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    kb = size / 1024
    fast = "with" if decode.decode_jpeg else "without"
    gain, usual = (" and ".join(f"{mb:.1f}" for mb in workers) for workers in (ours, theirs))
    text = f"""# Loading: speed and memory beside torchvision's

`CARLT_REAL_DATA=... python experiments/benchmarks/data_loading.py`, {time.strftime("%Y-%m-%d")}, commit {commit},
{cpu()}, {os.cpu_count()} cores, no GPU; Python {sys.version.split()[0]}, torch {torch.__version__},
torchvision {torchvision.__version__}, Pillow {PIL.__version__}, {fast} simplejpeg. Images per second of CPU time of one
process with one thread, median of five alternating rounds; both sides end in normalised float32 batches,
of 128 small and 32 large images.

| | torchvision | carlt | ratio |
|---|---|---|---|
| 32 x 32, 10,847 images: crop 4, flip | {small[0]:,.0f} | {small[1]:,.0f} | {small[1] / small[0]:.1f} |
| JPEG 500 x 375, {kb:.0f} kB: crop to 224, flip | {large[0]:,.0f} | {large[1]:,.0f} | {large[1] / large[0]:.2f} |

- Building the data module from lists of 437,513 + 24,426 lines: {seconds:.2f} s (best of three).
- Private memory that each of two workers gains over an epoch of 437,513 records: {gain} MB;
  with a Python list of (path, label) and torch's DataLoader {usual} MB.
- From asking for an epoch to its first batch of 32 with two workers, epochs 0, 1, 2 (the first starts the workers):
  {", ".join(f"{wait:.2f}" for wait in waits)} s.

The 500 x 375 pictures are mosaics of 48 real 64 x 64 images each, at quality 90.
"""
    path = Path(__file__).with_suffix(".md")
    path.write_text(text)
    print(text)


def cpu() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "unknown CPU")


if __name__ == "__main__":
    main()
