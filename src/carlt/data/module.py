"""The data module that every data set extends: splits, class counts and loaders."""

import hashlib
import weakref
from pathlib import Path
from typing import ClassVar, Literal

import lightning as L
import torch
from torch import Tensor

from carlt.data.batch import Foreground, Unchanged, View, Views
from carlt.data.images import ArrayImages, OnError, Split, Splits
from carlt.data.io.download import Download
from carlt.data.io.verify import Verify
from carlt.data.loaders import (
    ArrayEvalLoader,
    ArrayTrainLoader,
    FileEvalLoader,
    FileTrainLoader,
    default_num_workers,
    eval_loader,
)
from carlt.errors import CarltError
from carlt.ranges import Count, CountOrZero, checked
from carlt.runs.paths import MAX_BYTES, check_file
from carlt.runs.text import command_line
from carlt.samplers import BatchSchedule, Instance, Sampler

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class LongTailDataModule(L.LightningDataModule):
    """Loads splits and serves batches (``batch.Batch``; evaluation: images and labels); never augments by itself.

    Args:
        view, eval_view: the views of training and evaluation (``carlt.aug``); by default images are as they are stored.
        contrast_view, contrast_copies: the further view of contrastive losses, and how many of it.
        foreground: chooses the batches that come with images to paste from, and those images (``carlt.aug.Paste``).
        sampler: the rule that orders an epoch (``carlt.samplers``).
        seed: decides order and draws.
        image_size: side of the network's input in pixels; ``carlt.train`` gives views the same number.
        batch_size: images per step and device; ``eval_batch_size``: the same for evaluation.
        num_workers: decoding processes per device for sets of files; by default one per core, at most eight.
        validation: ``split`` takes the held-out split, ``test`` the test split (best-epoch numbers are then labelled as
            chosen on test), ``none`` neither.
        on_error: ``raise`` stops at bad input with one error that names it, ``skip`` counts, logs and leaves it out.
        normalisation: ``imagenet`` takes the mean and standard deviation of ImageNet's channels for every set and
            network; ``own`` those of the pretrained network, if it is one, else the data set's.

    A data set extends it with ``name``, ``mean``, ``std``, ``channels`` and ``load()``.
    """

    name: str
    verify: Verify = "lists"
    channels: ClassVar[int] = 3
    mean: ClassVar[tuple[float, ...]] = IMAGENET_MEAN
    std: ClassVar[tuple[float, ...]] = IMAGENET_STD

    @checked
    def __init__(
        self,
        *,
        view: View | None = None,
        eval_view: View | None = None,
        contrast_view: View | None = None,
        contrast_copies: int = 0,
        foreground: Foreground | None = None,
        sampler: Sampler | None = None,
        seed: int = 0,
        image_size: Count = 32,
        batch_size: Count = 128,
        eval_batch_size: Count = 512,
        num_workers: CountOrZero | None = None,
        validation: Literal["split", "test", "none"] = "split",
        on_error: OnError = "raise",
        normalisation: Literal["own", "imagenet"] = "own",
    ):
        super().__init__()
        if normalisation == "imagenet":
            if self.channels != 3:
                raise CarltError(f"data.normalisation=imagenet needs colour images; {self.name} has none")
            self.mean, self.std = IMAGENET_MEAN, IMAGENET_STD  # type: ignore[misc]
        self.normalisation = normalisation
        self.on_error: OnError = on_error
        self.views = Views(view or Unchanged(), contrast_view, contrast_copies, foreground)
        self.eval_view, self.sampler, self.seed = eval_view or Unchanged(), sampler or Instance(), seed
        self.image_size, self.batch_size, self.eval_batch_size = image_size, batch_size, eval_batch_size
        self.num_workers = default_num_workers() if num_workers is None else num_workers
        self.validation = validation
        self._splits: Splits | None = None
        self._with_workers: weakref.WeakSet[FileTrainLoader | FileEvalLoader] = weakref.WeakSet()

    def __str__(self) -> str:
        return repr(self)  # Lightning's would read an epoch of batches and fail on them

    def load(self) -> Splits:
        """Read the data set; called once per process."""
        raise NotImplementedError

    def set_verify(self, verify: Verify) -> None:
        """Set how thoroughly ``load`` checks files (``carlt.data.io.verify``); arrays in memory need no check."""
        # Class counts are of the images that are trained on, so bad ones must be found before anything is counted.
        self.verify = "full" if self.on_error == "skip" else verify

    def downloads(self) -> list[Download]:
        """The files that ``python -m carlt.prepare`` may fetch for this data set."""
        return []

    @property
    def splits(self) -> Splits:
        """The splits, read at the first use; CarltError for fewer than two classes or an empty split."""
        if self._splits is None:
            found = self.load()
            if found.num_classes < 2:
                names = ", ".join(found.class_names) or "none"
                raise CarltError(f"{self.name} needs images of at least two classes; its classes: {names}")
            for name, split in (("training", found.train), ("validation", found.val), ("test", found.test)):
                if split is not None and not len(split):
                    raise CarltError(f"{self.name} has no {name} image that can be used; restore the files")
            self._splits = found
        return self._splits

    @property
    def class_names(self) -> list[str]:
        return self.splits.class_names

    @property
    def num_classes(self) -> int:
        return self.splits.num_classes

    @property
    def class_counts(self) -> Tensor:
        """Training images of each class, int64 (C,)."""
        return self.splits.class_counts

    @property
    def val_split(self) -> Split | None:
        """The split that chooses the best epoch, if any."""
        return {"split": self.splits.val, "test": self.splits.test, "none": None}[self.validation]

    def checksum(self, *names: str) -> str:
        """sha256 over the images (pixels, or paths) and classes of the splits ``names``, by default train and test."""
        digest, splits = hashlib.sha256(), self.splits.named()
        for split in (splits[name] for name in names or ("train", "test")):
            images = split.images
            digest.update((images.pixels.numpy() if isinstance(images, ArrayImages) else images.paths).tobytes())
            digest.update(split.targets.numpy().tobytes())
        return digest.hexdigest()

    def schedule(self) -> BatchSchedule:
        """This rank's training batches; its length is the batches of an epoch."""
        targets, (rank, world_size) = self.splits.train.targets, self._rank()
        schedule = BatchSchedule(targets, self.sampler, self.batch_size, self.seed, rank, world_size)
        if len(schedule) == 0:
            raise CarltError(
                f"{self.name} has {len(targets)} training images, too few for a batch on each of {world_size} "
                "device(s); give more images, or fewer trainer.devices"
            )
        return schedule

    def train_dataloader(self) -> ArrayTrainLoader | FileTrainLoader:
        train, schedule = self.splits.train, self.schedule()
        if isinstance(train.images, ArrayImages):
            return ArrayTrainLoader(train, schedule, self.views, self._device())
        loader = FileTrainLoader(train, schedule, self.views, self.num_workers, self._device())
        self._with_workers.add(loader)
        return loader

    def evaluation_loader(self, split: Split) -> ArrayEvalLoader | FileEvalLoader:
        """``split`` in ``eval_view``, each image once over all ranks."""
        loader = eval_loader(
            split, self.eval_view, self.eval_batch_size, self.num_workers, self._device(), *self._rank()
        )
        if isinstance(loader, FileEvalLoader):
            self._with_workers.add(loader)
        return loader

    def val_dataloader(self) -> ArrayEvalLoader | FileEvalLoader | list:
        return [] if self.val_split is None else self.evaluation_loader(self.val_split)

    def test_dataloader(self) -> ArrayEvalLoader | FileEvalLoader:
        return self.evaluation_loader(self.splits.test)

    def close(self) -> None:
        """End the worker processes of all loaders; a new loader starts its own."""
        for loader in list(self._with_workers):
            loader.close()

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _device(self) -> torch.device:
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    def prepare_command(self, **places: Path) -> str:
        """The command that makes the data ready at ``places``, ``data.root`` and the like."""
        return command_line("carlt.prepare", f"data={self.name}", *(f"data.{key}={at}" for key, at in places.items()))


def read_required(path: Path, what: str, remedy: str, most: int = MAX_BYTES) -> bytes:
    """The content of ``path``, a file of at most ``most`` bytes; otherwise one error that names it and the remedy."""
    require(path, what, remedy)
    try:
        check_file(path, "it", most)
        return path.read_bytes()
    except (CarltError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CarltError(f"{what} at {path.absolute()} cannot be read ({reason}): {remedy}") from None


def require(path: Path, what: str, remedy: str) -> Path:
    """``path`` if it exists; otherwise one error that names the missing thing and the remedy."""
    if not path.exists():
        raise CarltError(f"{what} not found at {path.absolute()}: {remedy}")
    return path
