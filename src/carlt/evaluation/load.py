"""A finished run as an object: its network, its classes and its metrics, from its folder alone."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from carlt.config.instantiate import build, part_class
from carlt.config.stored import load_config, without_initial_weights
from carlt.data.batch import View
from carlt.evaluation.predict import Prediction, find_images, predict
from carlt.runs import paths
from carlt.runs.reading import read_run
from carlt.training.build import build_module, load_weights, quiet_libraries
from carlt.training.callbacks import read_checkpoint
from carlt.training.module import LongTailClassifier


@dataclass(frozen=True)
class TrainedRun:
    """The network of a run with what is needed to use it.

    >>> run = load_run(folder)  # the folder of a run on the digits
    >>> images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    >>> run.probabilities(images).shape
    torch.Size([2, 10])
    >>> run.class_names[3], run.class_counts[0].item(), sorted(run.metrics)[:2]
    ('digit 3', 104, ['car/ema_gap', 'car/search_error'])
    """

    folder: Path
    model: LongTailClassifier
    """In eval mode on the CPU: uint8 images (N, channels, H, W) to logits (N, C). It normalises by itself."""
    transform: View
    """The view of evaluation: uint8 images of any size to uint8 images of the network's size."""
    class_names: list[str]
    """By class number, (C,)."""
    class_counts: Tensor
    """Training images of each class, int64 (C,)."""
    metrics: dict[str, float | None]
    """Of the last epoch, e.g. ``test/accuracy`` in [0, 1]; None where a group of classes is empty."""
    result: dict[str, Any]
    """The content of ``result.json``."""
    config: DictConfig

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """Class probabilities (N, C) of uint8 images (N, channels, H, W) of any size."""
        return self.model(self.transform(images, torch.Generator())).float().softmax(1)

    def predict(
        self, images: Path | str | Iterable[Path | str], *, top_k: int = 5, batch_size: int = 64
    ) -> Iterator[Prediction]:
        """Predict the classes of image files. A file that cannot be read gives a ``Prediction`` with its ``error``.

        Args:
            images: a file, a folder (with its subfolders), a glob pattern, or several of these.
            top_k: classes per image, at least 1.
            batch_size: images per step of the network, at least 1.

        Raises:
            CarltError: no such file or folder, no images in it, or a number below 1.
        """
        return predict(
            torch.no_grad()(lambda pixels: self.model(pixels).float().softmax(1)),
            lambda image: self.transform(image, torch.Generator()),
            find_images(images),
            self.class_names,
            channels=part_class(self.config, "data").channels,
            top_k=top_k,
            batch_size=batch_size,
        )


def load_run(folder: Path | str, which: str = "last", *, trust: bool = False) -> TrainedRun:
    """Load a finished run. The images it was trained on are not needed.

    Args:
        folder: the run folder, with ``config.yaml``, ``result.json``, ``per_class.csv`` and ``checkpoints/``.
        which: ``last``, ``best`` or the path of a checkpoint.
        trust: allow classes that are not carlt's own. That runs their code: only for folders that you made.

    Raises:
        CarltError: no finished run, a damaged file, or a class that is not carlt's own without ``trust``.
    """
    folder = Path(folder)
    quiet_libraries()
    config = load_config(folder, trust=trust)
    run = read_run(folder)
    counts = torch.tensor([each.train_count for each in run.classes])
    data: Any = part_class(config, "data")
    known: Any = SimpleNamespace(
        num_classes=len(counts),
        class_counts=counts,
        channels=data.channels,
        mean=data.mean,
        std=data.std,
        image_size=config.data.image_size,
    )
    config.init_run = None  # the checkpoint holds a second stage whole
    module = build_module(without_initial_weights(config), known)
    path = paths.checkpoint(folder, which) if which in ("last", "best") else Path(which)
    load_weights(module, read_checkpoint(path), path, folder)
    return TrainedRun(
        folder=folder,
        model=module.eval(),
        transform=build(config, "aug.eval_view", image_size=config.data.image_size),
        class_names=[each.class_name for each in run.classes],
        class_counts=counts,
        metrics=run.result["metrics"],
        result=run.result,
        config=config,
    )
