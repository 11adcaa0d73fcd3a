"""ConCutMix's views: carlt's loader beside six-view loaders, in one run; writes mixed_views.md next to this file.

    CARLT_REAL_DATA=<folder with tiny-imagenet-half.tar> python experiments/benchmarks/mixed_views.py

ConCutMix's released loader reads two images a sample, one instance-sampled and one class-uniform, and augments three
views of each: one for classification, two for contrast. Training uses four of the six, and three where a batch is not
mixed. Both six-view loaders here do that work: one with carlt's own loaders and transforms (what is saved by doing the
work once), one with torchvision's per-image transforms (what a user would otherwise run).
"""

import os
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import torchvision
from data_loading import MEAN, STD, ArrayDataset, cpu, normalised, photographs
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler
from torchvision import transforms as usual

from carlt.config.overrides import compose_checked
from carlt.data import LongTailDataModule
from carlt.data.batch import Batch
from carlt.data.images import FileImages
from carlt.data.io import decode
from carlt.runs import provenance
from carlt.training.build import build_data

ROUNDS = 3
END = [usual.ToTensor(), usual.Normalize(MEAN, STD)]


class Counted:
    """A view that counts the images it has looked at."""

    def __init__(self, view: Any):
        self.view, self.seen = view, 0

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        self.seen += len(images)
        return self.view(images, generator)

    def image(self, image: Tensor) -> Tensor:
        self.seen += 1
        return self.view.image(image)


class Loader:
    """carlt's loaders of one or two data modules side by side, with what they read and augment counted."""

    def __init__(self, *modules: LongTailDataModule):
        self.decoded, self.views = 0, []
        for data in modules:
            own, contrast = Counted(data.views.view), Counted(data.views.contrast)
            self.views += [own, contrast]
            data.views = data.views._replace(view=own, contrast=contrast)
            images = data.splits.train.images
            if isinstance(images, FileImages):
                images.load = self._counted(images.load)  # type: ignore[method-assign]
        self.loaders = [data.train_dataloader() for data in modules]

    def _counted(self, load: Any) -> Any:
        def counted(index: int) -> Tensor:
            self.decoded += 1
            return load(index)

        return counted

    def __iter__(self) -> Iterator[tuple[Batch, ...]]:
        return zip(*self.loaders, strict=True)

    def next_epoch(self) -> None:
        """Other batches are mixed in every epoch."""
        for loader in self.loaders:
            loader.set_epoch(loader.epoch + 1)

    def augmented(self) -> int:
        """Views so far."""
        return sum(view.seen for view in self.views)


class SixViews(Dataset):
    """Each item three views, through torchvision's transforms."""

    def __init__(self, images: Dataset, view: Any, contrast: Any):
        self.images, self.view, self.contrast = images, view, contrast

    def __len__(self) -> int:
        return len(self.images)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> list[Tensor]:
        image, _ = self.images[index]
        return [self.view(image), self.contrast(image), self.contrast(image)]


class Pair:
    """The usual loader: instance-sampled and class-uniform items side by side, normalised already."""

    def __init__(self, items: Dataset, targets: Tensor, batch_size: int):
        weights = 1.0 / targets.bincount()[targets]
        uniform = WeightedRandomSampler(weights.tolist(), len(targets))
        options: dict[str, Any] = {"batch_size": batch_size, "drop_last": True}
        self.loaders = (DataLoader(items, shuffle=True, **options), DataLoader(items, sampler=uniform, **options))

    def __iter__(self) -> Iterator[Any]:
        return zip(*self.loaders, strict=True)


def rate(batches: Iterable, limit: int) -> float:
    """Training images per second of this process's CPU time, over at most ``limit`` batches, normalised in the end."""
    began, images = time.process_time(), 0
    for number, parts in enumerate(batches):
        if isinstance(parts[0], Batch):
            for part in parts:
                views = [part.images, part.contrast.flatten(0, 1)]
                for view in views + ([part.foreground[0]] if part.foreground is not None else []):
                    normalised(view)
            images += len(parts[0].images)
        else:
            images += len(parts[0][0])
        if number + 1 == limit:
            break
    return images / (time.process_time() - began)


def compare(modules: dict[str, list[LongTailDataModule]], pair: Pair, limit: int) -> dict[str, Any]:
    """Rates (median of alternating rounds), and reads and views an image, over the same batches."""
    loaders = {name: Loader(*parts) for name, parts in modules.items()}
    rates: dict[str, list[float]] = {"torchvision": [], **{name: [] for name in loaders}}
    for _ in range(ROUNDS):
        rates["torchvision"].append(rate(pair, limit))
        for name, loader in loaders.items():
            rates[name].append(rate(loader, limit))
            loader.next_epoch()
    seen = {name: statistics.median(values) for name, values in rates.items()}
    images = {name: loader.views[0].seen - _pasted(loader) for name, loader in loaders.items()}
    return {
        "rates": seen,
        "views": {name: loader.augmented() / images[name] for name, loader in loaders.items()},
        "decoded": {name: loader.decoded / images[name] for name, loader in loaders.items()},
    }


def _pasted(loader: Loader) -> int:
    """Views of images to paste: those of the classification view beyond one an image, which has two for contrast."""
    return loader.views[0].seen - loader.views[1].seen // 2


def data(*overrides: str) -> list[LongTailDataModule]:
    """carlt's loader with ConCutMix, and both halves of a six-view one, from the same config."""
    common = ("loss=bcl", "data.num_workers=0", "data.validation=none", "seed=0", *overrides)
    parts = (
        (),
        ("aug.paste=null", "aug.relabel=null"),
        ("aug.paste=null", "aug.relabel=null", "sampler=class_balanced"),
    )
    configs = (compose_checked("train", [*common, *more]) for more in parts)
    return [build_data(config) for config in configs]


def small_images(tiny: Path) -> dict[str, Any]:
    """10,847 real images of 32 x 32, with ConCutMix's CIFAR views."""
    one, six, uniform = data(
        "data=tiny_imagenet_lt", f"data.root={tiny}", "data.num_classes=100", "data.image_size=32", "model=resnet8",
        "recipe.view.padding=4", "aug=[autoaugment,cutout,concutmix]",
    )  # fmt: skip
    train = one.splits.train
    view = usual.Compose(
        [
            usual.RandomCrop(32, 4),
            usual.RandomHorizontalFlip(),
            usual.AutoAugment(usual.AutoAugmentPolicy.CIFAR10),
            *END,
            usual.RandomErasing(1.0, (0.25, 0.25), (1.0, 1.0)),
        ]
    )
    contrast = usual.Compose([*simclr(32), usual.RandomApply([usual.GaussianBlur(9, (0.1, 2.0))], 0.5), *END])
    pixels = train.images.pixels.permute(0, 2, 3, 1).contiguous().numpy()
    items = SixViews(ArrayDataset(pixels, train.targets.tolist(), lambda image: image), view, contrast)
    return compare({"six": [six, uniform], "carlt": [one]}, Pair(items, train.targets, 128), limit=24)


def large_images(folder: Path) -> dict[str, Any]:
    """Pictures of 500 x 375 at 224 x 224, with ConCutMix's ImageNet views."""
    one, six, uniform = data(
        "data=image_folder", f"data.root={folder}", "data.batch_size=32", "model=resnet50",
        "aug=[randaugment,concutmix]", "aug.contrast.blur_probability=0.0",
    )  # fmt: skip
    start = [usual.RandomResizedCrop(224), usual.RandomHorizontalFlip()]
    view = usual.Compose([*start, usual.ColorJitter(0.4, 0.4, 0.4), usual.RandAugment(), *END])
    items = SixViews(torchvision.datasets.ImageFolder(folder / "train"), view, usual.Compose([*simclr(224), *END]))
    targets = torch.tensor(items.images.targets)  # type: ignore[attr-defined]
    return compare({"six": [six, uniform], "carlt": [one]}, Pair(items, targets, 32), limit=12)


def simclr(size: int) -> list[Any]:
    """The contrastive view without its blur."""
    return [
        usual.RandomResizedCrop(size, (0.2, 1.0)),
        usual.RandomHorizontalFlip(),
        usual.RandomApply([usual.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
        usual.RandomGrayscale(0.2),
    ]


def table(small: dict[str, Any], large: dict[str, Any]) -> str:
    """Measures down, data sets across."""
    lines = {
        "six-view loader: views augmented an image": lambda of: f"{of['views']['six']:.2f}",
        "carlt: views augmented an image": lambda of: f"{of['views']['carlt']:.2f}",
        "six-view loader: images decoded an image": lambda of: f"{of['decoded']['six']:.2f}",
        "carlt: images decoded an image": lambda of: f"{of['decoded']['carlt']:.2f}",
        "six views, torchvision, images/s": lambda of: f"{of['rates']['torchvision']:,.0f}",
        "six views, carlt's transforms, images/s": lambda of: f"{of['rates']['six']:,.0f}",
        "carlt, images/s": lambda of: f"{of['rates']['carlt']:,.0f}",
        "carlt over six views of the same transforms": lambda of: f"{of['rates']['carlt'] / of['rates']['six']:.2f}",
        "carlt over torchvision": lambda of: f"{of['rates']['carlt'] / of['rates']['torchvision']:.2f}",
    }
    rows = [f"| {name} | {show(small)} | {show(large)} |" for name, show in lines.items()]
    return "\n".join(rows).replace("0.00", "0 (in memory)")


def main() -> None:
    """Measure everything and write the record."""
    torch.set_num_threads(1)
    source = Path(os.environ["CARLT_REAL_DATA"]) / "tiny-imagenet-half.tar"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with tarfile.open(source) as tar:
            tar.extractall(folder, filter="data")
        small = small_images(folder)
        photographs(folder, folder / "photos")
        large = large_images(folder / "photos")
    commit = (provenance.commit() or "unknown")[:7]
    text = f"""# ConCutMix's views: the work done once

`CARLT_REAL_DATA=... python experiments/benchmarks/mixed_views.py`, {time.strftime("%Y-%m-%d")}, commit {commit},
{cpu()}, {os.cpu_count()} cores, no GPU; Python {sys.version.split()[0]}, torch {torch.__version__},
torchvision {torchvision.__version__}, {"with" if decode.decode_jpeg else "without"} simplejpeg.
Training images per second of CPU time of one process with one thread, median of {ROUNDS} alternating rounds;
everything ends in normalised float32.

| | 32 x 32, 10,847 images, CIFAR's views | JPEG 500 x 375 to 224 x 224, ImageNet's views |
|---|---|---|
{table(small, large)}

A sample takes three views where its batch is not mixed and four where it is (probability 0.5): 3.5 in the mean. The
six-view loaders read a second image for every sample and augment three views of both, as ConCutMix's released loader.
With the same transforms carlt saves half a classification view and two contrastive ones of two and four: between 1.3
times (AutoAugment, image by image, is most of the small images' cost) and 2 times.
"""
    Path(__file__).with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
