"""Batches of (uint8 images (N, C, H, W), int64 targets (N,)), in an order that a resumed run continues exactly.

A training loader keeps (epoch, position) and gives them to Lightning as its state; the order itself is a function of
the seed and the epoch, and every random view a function of the seed, the epoch and the image or batch.
"""

import gc
import logging
import os
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from carlt.data.images import ArrayImages, FileImages, Split
from carlt.data.samplers import BatchSchedule
from carlt.errors import CarltError
from carlt.functional.seeds import fold

Batch = tuple[Tensor, Tensor]
log = logging.getLogger(__name__)


class View(Protocol):
    """One random (or fixed) look at an image; carlt.aug has them."""

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """uint8 (N, C, H, W) to uint8 (N, C, h, w), every image with draws of its own from ``generator``."""
        ...

    def image(self, image: Tensor) -> Tensor:
        """One decoded picture, uint8 (C, H, W), to uint8 (C, h, w), drawing from torch's global generator."""
        ...


class TrainLoader:
    """The resumable part of a training loader: where in which epoch it is."""

    def __init__(self, split: Split, schedule: BatchSchedule, view: View):
        self.split, self.schedule, self.view = split, schedule, view
        self.epoch = self.position = 0

    @property
    def sampler(self) -> "TrainLoader":
        """Lightning calls ``loader.sampler.set_epoch`` before every epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            self.epoch, self.position = epoch, 0

    def __len__(self) -> int:
        return len(self.schedule)

    def __iter__(self) -> Iterator[Batch]:
        # A finished epoch that is iterated again starts over.
        start = self.position if self.position < len(self) else 0
        for position, batch in enumerate(self._load(self.epoch, start), start + 1):
            self.position = position
            yield batch

    def _load(self, epoch: int, start: int) -> Iterator[Batch]:
        raise NotImplementedError

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]


class ArrayTrainLoader(TrainLoader):
    """Whole batches indexed and augmented as tensors, on the device that holds the array."""

    def __init__(self, split: Split, schedule: BatchSchedule, view: View, device: torch.device):
        super().__init__(split, schedule, view)
        assert isinstance(split.images, ArrayImages)
        self.pixels, self.targets = split.images.pixels.to(device), split.targets.to(device)

    def _load(self, epoch: int, start: int) -> Iterator[Batch]:
        for step, indices in enumerate(self.schedule.batches(epoch, start), start):
            generator = torch.Generator().manual_seed(fold(self.schedule.seed, epoch, step, self.schedule.rank))
            indices = indices.to(self.pixels.device)
            yield self.view(self.pixels[indices], generator), self.targets[indices]


class FileTrainLoader(TrainLoader):
    """Files decoded and viewed in worker processes that live as long as the loader (no stall between epochs)."""

    def __init__(self, split: Split, schedule: BatchSchedule, view: View, num_workers: int, pin_memory: bool):
        super().__init__(split, schedule, view)
        self._plan = _EpochPlan(schedule)
        self._workers = _Workers(_SeededFiles(split, view, schedule.seed), self._plan, num_workers, pin_memory)

    def _load(self, epoch: int, start: int) -> Iterator[Batch]:
        self._plan.epoch, self._plan.start = epoch, start
        yield from self._workers


def eval_loader(
    split: Split,
    view: View,
    batch_size: int,
    num_workers: int,
    device: torch.device,
    rank: int = 0,
    world_size: int = 1,
) -> "ArrayEvalLoader | FileEvalLoader":
    """Every image of ``split`` exactly once over all ranks, in order; ranks may differ by one image."""
    order = torch.arange(rank, len(split), world_size)
    if isinstance(split.images, ArrayImages):
        return ArrayEvalLoader(split, order, view, batch_size, device)
    return FileEvalLoader(split, order, view, batch_size, num_workers, device.type == "cuda")


class ArrayEvalLoader:
    """Batches of an array split in a fixed order."""

    def __init__(self, split: Split, order: Tensor, view: View, batch_size: int, device: torch.device):
        self.split, self.batches, self.view, self.device = split, order.split(batch_size), view, device

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        assert isinstance(self.split.images, ArrayImages)
        for indices in self.batches:
            pixels = self.split.images.pixels[indices].to(self.device)
            yield self.view(pixels, torch.Generator()), self.split.targets[indices].to(self.device)


class FileEvalLoader:
    """Batches of a split of files in a fixed order."""

    def __init__(self, split: Split, order: Tensor, view: View, batch_size: int, num_workers: int, pin_memory: bool):
        self.batches = [[(0, index) for index in batch.tolist()] for batch in order.split(batch_size)]
        self._workers = _Workers(_SeededFiles(split, view, 0), self.batches, num_workers, pin_memory)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._workers)


def default_num_workers() -> int:
    """One worker a usable core, eight at most; a lone core loads in the main process."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if cores == 1 else min(cores, 8)


class _EpochPlan:
    """The batch sampler of a DataLoader: yields lists of (epoch, index) from ``start`` on."""

    def __init__(self, schedule: BatchSchedule):
        self.schedule, self.epoch, self.start = schedule, 0, 0

    def __len__(self) -> int:
        return len(self.schedule) - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for indices in self.schedule.batches(self.epoch, self.start):
            yield [(self.epoch, index) for index in indices.tolist()]


class _SeededFiles(Dataset):
    """Item (epoch, index): a view of image ``index``, whose draws depend on (seed, epoch, index) alone, and its class.

    An image that cannot be decoded is the message that says so: an exception would arrive with a traceback in it.
    """

    def __init__(self, split: Split, view: View, seed: int):
        assert isinstance(split.images, FileImages)
        self.images, self.view, self.seed = split.images, view, seed
        self.targets = split.targets.numpy()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, np.int64] | str:
        epoch, index = item
        try:
            image = self.images.load(index)
        except CarltError as error:
            return str(error)
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed: before CUDA is initialised that queues a call for it, once an image.
            torch.default_generator.manual_seed(fold(self.seed, epoch, index))
            return self.view.image(image), self.targets[index]


class _Workers:
    """Batches of ``dataset`` made by processes that live from the first batch of the first epoch on."""

    def __init__(self, dataset: _SeededFiles, batches: Any, num_workers: int, pin_memory: bool):
        options: dict[str, Any] = {"prefetch_factor": 4, "persistent_workers": True} if num_workers else {}
        self.on_error = dataset.images.on_error
        self.loader = DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=num_workers,
            pin_memory=pin_memory,
            worker_init_fn=_start_worker if num_workers else None,
            collate_fn=_collate,
            **options,
        )

    def __iter__(self) -> Iterator[Batch]:
        for batch, complaints in self.loader:
            if complaints and self.on_error == "raise":
                raise CarltError(f"{complaints[0]}, or leave such images out with data.on_error=skip")
            for complaint in complaints:
                log.warning("left out: %s", complaint)
            if not batch:
                raise CarltError(f"no image of a whole batch can be decoded; the first: {complaints[0]}")
            yield tuple(batch)


def _collate(items: list[tuple[Tensor, np.int64] | str]) -> tuple[Any, list[str]]:
    """The images and classes of a batch (None if there are none), and what was said of the others."""
    found = [item for item in items if not isinstance(item, str)]
    return default_collate(found) if found else None, [item for item in items if isinstance(item, str)]


def _start_worker(worker: int) -> None:
    torch.set_num_threads(1)
    # Python's collector would write into every object that the worker shares with its parent, and so copy them all.
    gc.freeze()
