"""Batches of uint8 images and int64 labels, in an order that a resumed run continues exactly.

A training loader keeps (epoch, position) and gives them to Lightning as its state; the order itself is a function of
the seed and the epoch, and every random view a function of the seed, the epoch and the image's or batch's place in it.
"""

import gc
import os
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import cycle, islice
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from carlt.data.batch import Batch, Foreground, Pair, View, Views
from carlt.data.images import ArrayImages, FileImages, Split
from carlt.errors import CarltError
from carlt.functional.seeds import derive_seed
from carlt.protocols import TwoPartView
from carlt.runs.text import get_logger
from carlt.samplers import BatchSchedule, PowerLaw

log = get_logger(__name__)


class TrainLoader:
    """The resumable part of a training loader: its epoch and position, and the images of each batch."""

    def __init__(self, schedule: BatchSchedule, views: Views):
        self.schedule, self.views = schedule, views
        self.epoch = self.position = 0
        self.plan = BatchPlan(schedule, views.foreground)

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

    def __init__(self, split: Split, schedule: BatchSchedule, views: Views, device: torch.device):
        super().__init__(schedule, views)
        assert isinstance(split.images, ArrayImages)
        self.pixels, self.targets = split.images.on(device), split.targets.to(device)

    def _load(self, epoch: int, start: int) -> Iterator[Batch]:
        view, contrast, copies, _ = self.views
        for step, (indices, other) in enumerate(self.plan.batches(epoch, start), start):
            generator = torch.Generator().manual_seed(derive_seed(self.schedule.seed, epoch, step, self.schedule.rank))
            indices, other = (chosen.to(self.pixels.device, non_blocking=True) for chosen in (indices, other))
            pixels = self.pixels.index_select(0, indices)
            yield Batch(
                view(pixels, generator),
                self.targets[indices],
                torch.stack([contrast(pixels, generator) for _ in range(copies)]) if contrast and copies else None,
                (view(self.pixels.index_select(0, other), generator), self.targets[other]) if len(other) else None,
            )


class FileTrainLoader(TrainLoader):
    """Files decoded and cropped in worker processes that live as long as the loader (no stall between epochs)."""

    def __init__(self, split: Split, schedule: BatchSchedule, views: Views, num_workers: int, device: torch.device):
        super().__init__(schedule, views)
        self._items = _EpochItems(self.plan)
        self._workers = _Workers(split, views, self._items, num_workers, device)

    def _load(self, epoch: int, start: int) -> Iterator[Batch]:
        self._items.epoch, self._items.start = epoch, start
        yield from self._workers

    def close(self) -> None:
        """End the worker processes."""
        self._workers.close()


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
    batches = _eval_batches(len(split), batch_size, rank, world_size)
    if isinstance(split.images, ArrayImages):
        return ArrayEvalLoader(split, batches, view, device)
    return FileEvalLoader(split, batches, view, num_workers, device)


def _eval_batches(images: int, batch_size: int, rank: int, world_size: int) -> Sequence[Tensor]:
    """This rank's indices. All ranks have equally many batches, because they may wait for each other in each."""
    if images < world_size:
        raise CarltError(f"{images} images cannot be split over {world_size} devices; use fewer devices")
    order = torch.arange(rank, images, world_size)
    if world_size == 1:
        return order.split(batch_size)
    number = min(-(-images // (batch_size * world_size)), images // world_size)
    return order.tensor_split(max(1, number))


class ArrayEvalLoader:
    """Batches of an array split in a fixed order."""

    def __init__(self, split: Split, batches: Sequence[Tensor], view: View, device: torch.device):
        assert isinstance(split.images, ArrayImages)
        self.pixels, self.targets = split.images.on(device), split.targets.to(device)
        self.batches, self.view = [batch.to(device) for batch in batches], view

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Pair]:
        for indices in self.batches:
            yield self.view(self.pixels.index_select(0, indices), torch.Generator()), self.targets[indices]


class FileEvalLoader:
    """Batches of a split of files in a fixed order."""

    def __init__(self, split: Split, batches: Sequence[Tensor], view: View, num_workers: int, device: torch.device):
        self.batches = [[(0, index, False) for index in batch.tolist()] for batch in batches]
        self._workers = _Workers(split, Views(view), self.batches, num_workers, device)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Pair]:
        return ((batch.images, batch.labels) for batch in self._workers)

    def close(self) -> None:
        """End the worker processes."""
        self._workers.close()


def default_num_workers() -> int:
    """One worker per usable core, at most eight; on a single core images load in the main process."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if cores == 1 else min(cores, 8)


FINISH = 2
"""Keeps the draws of a batch apart from those of its first image."""

Item = tuple[int, int, bool]
"""The seed of its draws, which image, and whether it is pasted from."""


class BatchPlan:
    """The indices of each batch of an epoch: images to show, and images to paste from (none where it is not mixed)."""

    def __init__(self, schedule: BatchSchedule, foreground: Foreground | None):
        self.schedule, self.foreground = schedule, foreground
        self.pasted = None if foreground is None else schedule.resampled(PowerLaw(foreground.power))

    def batches(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Indices of batches ``start``, ``start + 1``, ... of ``epoch``: (shown, pasted from)."""
        own, none = self.schedule.batches(epoch, start), torch.empty(0, dtype=torch.int64)
        if self.foreground is None or self.pasted is None:
            yield from ((batch, none) for batch in own)
            return
        for step, (batch, other) in enumerate(zip(own, self.pasted.batches(epoch, start), strict=True), start):
            # The same on all ranks: a step takes as long as its slowest rank.
            point = derive_seed(self.pasted.seed, epoch, step) / 2**63
            yield batch, other if self.foreground.is_mixed(epoch, point) else none


class _EpochItems:
    """The batch sampler of a DataLoader: yields lists of items from batch ``start`` of ``epoch`` on.

    It refers to no loader. Workers that end as part of a reference cycle cost five seconds each, because Python closes
    their queues before torch can ask them to stop.
    """

    def __init__(self, plan: BatchPlan):
        self.plan, self.epoch, self.start = plan, 0, 0

    def __len__(self) -> int:
        return len(self.plan.schedule) - self.start

    def __iter__(self) -> Iterator[list[Item]]:
        schedule = self.plan.schedule
        for step, batch in enumerate(self.plan.batches(self.epoch, self.start), self.start):
            # By place in the epoch, not by image: a sampler may show an image twice, and then in two views.
            first = step * schedule.batch_size * schedule.world_size + schedule.rank
            yield [
                (derive_seed(schedule.seed, self.epoch, first + k * schedule.world_size, pasted), index, bool(pasted))
                for pasted, indices in enumerate(batch)
                for k, index in enumerate(indices.tolist())
            ]


class _SeededFiles(Dataset):
    """Loads an item: its file, decoded and cropped; for a file that cannot be decoded, the error message (an exception
    would bring a traceback)."""

    def __init__(self, split: Split, views: Views):
        assert isinstance(split.images, FileImages)
        self.images, self.views = split.images, views
        self.targets = split.targets.numpy()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, item: Item) -> "_LoadedItem | str":
        seed, index, pasted = item
        try:
            image = self.images.load(index)
        except CarltError as error:
            return str(error)
        view, contrast, copies, _ = self.views
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed: before CUDA is initialised that queues a call per image.
            torch.default_generator.manual_seed(seed)
            seen = _crop(view, image)
            more = [_crop(contrast, image) for _ in range(copies)] if contrast and copies and not pasted else []
        return _LoadedItem(seen, self.targets[index], more, pasted, seed)


class _LoadedItem(NamedTuple):
    """An item of _SeededFiles: the part of its views that needs the single picture, and where it belongs."""

    view: Tensor
    label: np.int64
    contrast: list[Tensor]
    pasted: bool
    seed: int


def _crop(view: View, image: Tensor) -> Tensor:
    return view.crop(image) if isinstance(view, TwoPartView) else view.image(image)


class _Collated(NamedTuple):
    """A batch of decoded images (None if there is none), the seed of what is left to do, and the complaints."""

    batch: Batch | None
    seed: int
    complaints: list[str]


class _Workers:
    """Batches on ``device``, made of files by processes that live from the first batch of the first epoch on.

    Views are finished where the network computes: on a GPU in this process, and otherwise in the workers.
    """

    def __init__(self, split: Split, views: Views, batches: Any, num_workers: int, device: torch.device):
        assert isinstance(split.images, FileImages)
        options: dict[str, Any] = {"prefetch_factor": 4, "persistent_workers": True} if num_workers else {}
        self.on_error, self.views, self.device = split.images.on_error, views, device
        self.loader = DataLoader(
            _SeededFiles(split, views),
            batch_sampler=batches,
            num_workers=num_workers,
            pin_memory=device.type == "cuda",
            worker_init_fn=_start_worker if num_workers else None,
            collate_fn=partial(_collate, views=views if device.type == "cpu" else None),
            **options,
        )

    def close(self) -> None:
        """End the processes now, and not when Python finds the loader among its garbage (see ``_EpochItems``)."""
        self.loader._iterator = None

    def __iter__(self) -> Iterator[Batch]:
        for batch, seed, complaints in self.loader:
            if complaints and self.on_error == "raise":
                raise CarltError(f"{complaints[0]}, or leave such images out with data.on_error=skip")
            for complaint in complaints:
                log.warning("left out: %s", complaint)
            if batch is None:
                raise CarltError(f"no image of a whole batch can be decoded; the first: {complaints[0]}")
            yield (
                batch
                if self.device.type == "cpu"
                else _finish(move_data_to_device(batch, self.device), seed, self.views)
            )


def _collate(items: list[_LoadedItem | str], views: Views | None) -> _Collated:
    """Put items together, and finish their ``views`` here if they are given."""
    complaints = [item for item in items if isinstance(item, str)]
    own = [item for item in items if isinstance(item, _LoadedItem) and not item.pasted]
    other = [item for item in items if isinstance(item, _LoadedItem) and item.pasted]
    if not own:
        return _Collated(None, 0, complaints)
    contrast = torch.stack([torch.stack(item.contrast) for item in own], 1) if own[0].contrast else None
    other = list(islice(cycle(other), len(own)))  # as many as shown images, also if some were left out
    batch = Batch(*_stacked(own), contrast, _stacked(other) if other else None)
    return _Collated(batch if views is None else _finish(batch, own[0].seed, views), own[0].seed, complaints)


def _stacked(items: list[_LoadedItem]) -> Pair:
    return default_collate([item.view for item in items]), default_collate([item.label for item in items])


def _finish(batch: Batch, seed: int, views: Views) -> Batch:
    """The part of the views that takes whole batches, with draws that follow ``seed``."""
    generator = torch.Generator().manual_seed(derive_seed(seed, FINISH))
    images, labels, contrast, foreground = batch
    if isinstance(views.view, TwoPartView):
        images = views.view.finish(images, generator)
        if foreground is not None:
            foreground = views.view.finish(foreground[0], generator), foreground[1]
    if contrast is not None and isinstance(views.contrast, TwoPartView):
        contrast = torch.stack([views.contrast.finish(each, generator) for each in contrast])
    return Batch(images, labels, contrast, foreground)


def _start_worker(worker: int) -> None:
    torch.set_num_threads(1)
    # Python's collector would write into every object that the worker shares with its parent, and so copy them all.
    gc.freeze()
