"""The memory part of data_loading.py: what workers gain while they read an epoch of records."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from carlt.data.batch import Views
from carlt.data.images import FileImages, Split
from carlt.data.loaders import FileTrainLoader
from carlt.samplers import BatchSchedule, Instance

BATCH = 1024


class PythonLists(Dataset):
    """The usual way: a list of (path, label)."""

    def __init__(self, paths: np.ndarray, labels: Tensor):
        self.samples = [(path.decode(), label) for path, label in zip(paths.tolist(), labels.tolist(), strict=True)]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.samples[index]
        return torch.tensor(len(path)), label


def worker_growth(train: Split) -> tuple[list[float], list[float]]:
    """MB of memory of its own that each of two workers gains after the first fiftieth of an epoch: lists, ours."""
    assert isinstance(train.images, FileImages)
    theirs = DataLoader(PythonLists(train.images.paths, train.targets), BATCH, shuffle=True, num_workers=2)
    ours = FileTrainLoader(
        Split(NoFiles(train.images.root, train.images.paths), train.targets),
        BatchSchedule(train.targets, Instance(), BATCH, seed=0),
        Views(TouchPath()),
        num_workers=2,
        device=torch.device("cpu"),
    )
    return growth(theirs), growth(ours)


class NoFiles(FileImages):
    """Reads the path of an image, not the image: there are none."""

    def load(self, index: int) -> Tensor:
        return torch.tensor(len(str(self.path(index))))


class TouchPath:
    """No view."""

    def image(self, image: Tensor) -> Tensor:
        return image


def growth(loader: Any) -> list[float]:
    """Growth of the private memory of this process's children over one epoch of ``loader``."""
    steps = len(loader)
    start: dict[int, float] = {}
    end: dict[int, float] = {}
    for step, _batch in enumerate(loader):
        if step == steps // 50:
            start = private_memory()
        if step == steps - 20:
            end = private_memory()
    return [end[pid] - start[pid] for pid in end if pid in start]


def private_memory() -> dict[int, float]:
    """MB that each child of this process shares with no other process."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {int(pid): private_mb(Path(f"/proc/{pid}/smaps_rollup")) for pid in children}


def private_mb(rollup: Path) -> float:
    lines = (line.split() for line in rollup.read_text().splitlines())
    return sum(int(line[1]) for line in lines if line[0].startswith("Private_")) / 1024
