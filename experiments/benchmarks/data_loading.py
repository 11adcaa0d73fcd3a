"""Loading speed and memory beside torchvision's, in one run; writes data_loading.md next to this file.

    CARLT_REAL_DATA=<folder with tiny-imagenet-half.tar> python experiments/benchmarks/data_loading.py
    python experiments/benchmarks/data_loading.py        # with made-up images

Speeds are images per second; both sides shuffle, load, augment, batch and end in normalised float32 on the device. The
median of alternating rounds. On a CPU they are of CPU time of one process with one thread, so that other load on
the machine does not count; on a GPU of the clock, and both sides have eight workers for what is not on the device.
"""

import os
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import PIL
import torch
import torchvision
from data_memory import worker_growth
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from carlt.aug import Compose, CropFlip, RandAugment, Resize, ResizedCropFlip
from carlt.data import CIFAR100LT, ImageFolder, INaturalist2018, LongTailDataModule, TinyImageNetLT
from carlt.data.images import Split
from carlt.data.io import decode
from carlt.runs import provenance

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RECORDS, CLASSES, BATCH = 437_513, 8_142, 128
PHOTOS = 384  # and on a GPU twelve links to each, or workers would have read most of an epoch before its clock starts
ROUNDS = 3
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
WORKERS = 8 if DEVICE.type == "cuda" else 0
GOAL = 50_000  # images of 32 px a second, with RandAugment, on a GPU


SCALE = [255 * torch.tensor(values, device=DEVICE).view(3, 1, 1) for values in (MEAN, STD)]


def normalised(images: Tensor) -> Tensor:
    """What the module does to a uint8 batch."""
    mean, std = SCALE
    return images.float().sub_(mean).div_(std)


def seconds() -> float:
    """CPU time of this process, or on a GPU the clock after all its work."""
    if DEVICE.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def rate(batches: Iterator) -> float:
    """Images per second."""
    next(batches)  # start-up is no throughput
    began, images = seconds(), 0
    for batch, *_ in batches:
        batch = batch.to(DEVICE, non_blocking=True)
        images += len(normalised(batch) if batch.dtype == torch.uint8 else batch)
    return images / (seconds() - began)


def compare(theirs: object, ours: object) -> tuple[float, float]:
    """Median rates over some rounds, one after the other."""
    rounds = [(rate(iter(theirs)), rate(iter(ours))) for _ in range(ROUNDS)]
    return statistics.median(t for t, _ in rounds), statistics.median(o for _, o in rounds)


class ArrayDataset(Dataset):
    """torchvision.datasets.CIFAR100's way: an array, each item a Pillow image through transforms."""

    def __init__(self, pixels: np.ndarray, targets: list[int], transform: Any):
        self.pixels, self.targets, self.transform = pixels, targets, transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.targets[index]


def usual_loader(items: Dataset, crop: Any, batch: int, *more: Any) -> DataLoader:
    """torch's DataLoader with torchvision's transforms on Pillow images."""
    end = [transforms.RandomHorizontalFlip(), *more, transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    items.transform = transforms.Compose([crop, *end])  # type: ignore[attr-defined]
    options = {"num_workers": WORKERS, "pin_memory": True, "persistent_workers": True} if WORKERS else {}
    return DataLoader(items, batch, shuffle=True, **options)


def on_device(data: LongTailDataModule) -> LongTailDataModule:
    """``data`` as a trainer on ``DEVICE`` would have it."""
    data._device = lambda: DEVICE  # type: ignore[method-assign]
    return data


def small_images(tiny: Path | None, folder: Path) -> dict[str, tuple[float, float]]:
    """10,847 images of 32 x 32: crop by 4, flip, normalise; and with RandAugment."""
    if tiny is None:
        made_up.cifar100(folder)
    found = {}
    for name, view, more in (
        ("crop 4, flip", CropFlip(32), []),
        ("crop 4, flip, RandAugment", Compose(CropFlip(32), [RandAugment()]), [transforms.RandAugment()]),
    ):
        options = {"view": view, "eval_view": Resize(32), "image_size": 32, "batch_size": BATCH, "validation": "none"}
        if tiny is None:
            data = on_device(CIFAR100LT(root=folder, official=False, **options))
        else:
            data = on_device(TinyImageNetLT(root=tiny, num_classes=100, **options))
        train = data.splits.train
        pixels = train.images.pixels.permute(0, 2, 3, 1).contiguous().numpy()
        items = ArrayDataset(pixels, train.targets.tolist(), None)
        theirs = usual_loader(items, transforms.RandomCrop(32, 4), BATCH, *more)
        found[f"32 x 32, 10,847 images: {name}"] = compare(theirs, data.train_dataloader())
    return found


def photographs(tiny: Path | None, folder: Path) -> int:
    """Pictures of 500 x 375, quality 90, in two classes; their mean size in bytes."""
    draws, size = np.random.default_rng(0), 0
    sources = [] if tiny is None else sorted((tiny / "tiny-imagenet-200/train").glob("*/images/*.JPEG"))
    for number in range(PHOTOS):
        path = folder / "train" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        (made_up.photograph(draws) if tiny is None else mosaic(sources, draws)).save(path, quality=90)
        size += path.stat().st_size
        for more in range(11 if WORKERS else 0):
            path.with_name(f"{number}_{more}.jpg").hardlink_to(path)
    (folder / "test").symlink_to(folder / "train")
    return size // PHOTOS


def mosaic(sources: list[Path], draws: np.random.Generator) -> Image.Image:
    """A picture of 500 x 375 out of 8 x 6 real images."""
    photo = Image.new("RGB", (512, 384))
    for (row, column), index in np.ndenumerate(draws.choice(len(sources), (6, 8))):
        with Image.open(sources[index]) as tile:
            photo.paste(tile.convert("RGB"), (64 * column, 64 * row))
    return photo.crop((6, 4, 506, 379))


def large_images(folder: Path, size: int) -> dict[str, tuple[float, float]]:
    """Decode, RandomResizedCrop(224), flip, normalise; and with jitter and RandAugment."""
    found = {}
    jitter = [transforms.ColorJitter(0.4, 0.4, 0.4), transforms.RandAugment()]
    for name, view, more in (
        ("flip", ResizedCropFlip(224), []),
        ("flip, jitter, RandAugment", Compose(ResizedCropFlip(224, jitter=0.4), [RandAugment()]), jitter),
    ):
        items = torchvision.datasets.ImageFolder(folder / "train")
        theirs = usual_loader(items, transforms.RandomResizedCrop(224), 32, *more)
        options = {"image_size": 224, "batch_size": 32, "num_workers": WORKERS}
        ours = on_device(ImageFolder(root=folder, view=view, eval_view=Resize(224), **options))
        found[f"JPEG 500 x 375, {size / 1024:.0f} kB: crop to 224, {name}"] = compare(theirs, ours.train_dataloader())
    return found


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
    real = os.environ.get("CARLT_REAL_DATA")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tiny = folder if real else None
        if real:
            with tarfile.open(Path(real) / "tiny-imagenet-half.tar") as tar:
                tar.extractall(folder, filter="data")
        found = small_images(tiny, folder / "cifar")
        found |= large_images(folder / "photos", photographs(tiny, folder / "photos"))
        waits = epoch_starts(folder / "photos")
        write_lists(folder / "lists")
        seconds, records = read_lists(folder / "lists")
        theirs, ours = worker_growth(records)
    commit = (provenance.commit() or "unknown")[:7]
    rows = "\n".join(f"| {name} | {a:,.0f} | {b:,.0f} | {b / a:.1f} |" for name, (a, b) in found.items())
    on_gpu = DEVICE.type == "cuda"
    given = "CARLT_REAL_DATA=... " if real else ""
    pictures = "All images are made up, the 500 x 375 pictures of smooth colours with noise"
    if real:
        pictures = "The 500 x 375 pictures are mosaics of 48 real 64 x 64 images each"
    where = torch.cuda.get_device_name() if on_gpu else f"{cpu()}, {os.cpu_count()} cores, no GPU"
    unit = "second" if on_gpu else "second of CPU time of one process with one thread"
    goal = f"The goal with RandAugment at 32 px on a GPU is {GOAL:,} images/s{'' if on_gpu else '; not measured'}."
    fast = "with" if decode.decode_jpeg else "without"
    gain, usual = (" and ".join(f"{mb:.1f}" for mb in workers) for workers in (ours, theirs))
    text = f"""# Loading: speed and memory beside torchvision's

`{given}python experiments/benchmarks/data_loading.py`, {time.strftime("%Y-%m-%d")}, commit {commit},
{where}; Python {sys.version.split()[0]}, torch {torch.__version__},
torchvision {torchvision.__version__}, Pillow {PIL.__version__}, {fast} simplejpeg.
Images per {unit}, median of {ROUNDS} alternating rounds; both sides end in
normalised float32 batches, of 128 small and 32 large images.

| | torchvision | carlt | ratio |
|---|---|---|---|
{rows}

{goal}

- Building the data module from lists of 437,513 + 24,426 lines: {seconds:.2f} s (best of three).
- Private memory that each of two workers gains over an epoch of 437,513 records: {gain} MB;
  with a Python list of (path, label) and torch's DataLoader {usual} MB.
- From asking for an epoch to its first batch of 32 with two workers, epochs 0, 1, 2 (the first starts the workers):
  {", ".join(f"{wait:.2f}" for wait in waits)} s.

{pictures}, at quality 90.
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
