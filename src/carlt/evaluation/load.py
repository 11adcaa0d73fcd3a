"""A finished run as an object: its network, its classes and its metrics, from its folder alone."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from carlt.config.given import given
from carlt.config.instantiate import build, part_class
from carlt.config.stored import load_config, without_initial_weights
from carlt.data.batch import View
from carlt.errors import CarltError
from carlt.evaluation.find_images import find_images
from carlt.evaluation.predict import Network, Prediction, predict
from carlt.functional.adjustment import without_prior
from carlt.ranges import Strength, value_problem
from carlt.runs import paths
from carlt.runs.reading import finished_run
from carlt.runs.record import read_result
from carlt.training.build import build_module, load_weights, quiet_libraries
from carlt.training.callbacks import read_checkpoint
from carlt.training.module import LongTailClassifier

LARGEST_OFFSET = 1e6
"""The largest class offset, in logits, that a record may hold. None that is found comes near it, and float32 can still
hold it times the largest tau."""


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
    checkpoint: Path
    """The file that the weights are from."""
    tau: float | None = None
    """Strength of the prior adjustment of predictions: that of the run's record of ``carlt.evaluate
    posthoc=logit_adjusted``, if it has one, for the last epoch; None adjusts nothing."""
    class_offsets: Tensor | None = None
    """tau times the class offsets of the run's record of ``carlt.evaluate posthoc=car``, float32 (C,), if it has one,
    for the last epoch. Predictions are then adjusted by them instead of ``tau``."""

    def adjustment(self, tau: float | None = None) -> Tensor | None:
        """What adjusted predictions add to the logits, (C,): -``tau`` log prior if it is given, else ``class_offsets``,
        else -``self.tau`` log prior; None without any of these."""
        if tau is None and self.class_offsets is not None:
            return self.class_offsets
        tau = self.tau if tau is None else _checked_tau(tau, "tau")
        return None if tau is None else without_prior(torch.zeros(len(self.class_counts)), self.class_counts, tau)

    def probabilities(self, images: Tensor) -> Tensor:
        """Class probabilities (N, C) of uint8 images (N, channels, H, W) of any size.

        Raises:
            CarltError: another type, another number of channels than the network has, or logits that are not finite.
        """
        channels = self.model.mean.numel()
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != channels:
            raise CarltError(f"images: expected uint8 (N, {channels}, H, W), got {images.dtype} {tuple(images.shape)}")
        return self._logits(self.transform(images, torch.Generator())).softmax(1)

    @torch.no_grad()
    def _logits(self, images: Tensor) -> Tensor:
        logits = self.model(images.to(self.model.device)).float()
        if not logits.isfinite().all():
            raise CarltError(
                "the network's logits are not finite: its training has diverged; choose another checkpoint with "
                "which=, or train anew with a smaller optim.lr"
            )
        return logits

    def predict(
        self,
        images: Path | str | Iterable[Path | str],
        *,
        top_k: int = 5,
        batch_size: int = 64,
        tau: float | None = None,
    ) -> Iterator[Prediction]:
        """Predict the classes of image files. A file that cannot be read gives a ``Prediction`` with its ``error``.

        Args:
            images: a file, a folder (with its subfolders), a glob pattern, a list file, or several of these
                (``carlt.evaluation.find_images``).
            top_k: classes per image, at least 1.
            batch_size: images per step of the network, at least 1.
            tau: strength of the prior adjustment, in [0, 100]; by default that of the run's records (``adjustment``).

        Raises:
            CarltError: no such file or folder, no images in it, or a number out of range.
        """
        return predict(self.network(tau), find_images(images), top_k=top_k, batch_size=batch_size)

    def network(self, tau: float | None = None) -> Network:
        """What ``carlt.evaluation.predict.predict`` takes of this run; ``tau`` as in :meth:`predict`."""
        return Network(
            lambda images: self._logits(images).cpu(),
            lambda image: self.transform(image, torch.Generator()),
            self.class_names,
            part_class(self.config, "data").channels,
            self.adjustment(tau),
        )


def load_run(folder: Path | str, which: str = "last", *, trust: bool = False, **modules: nn.Module) -> TrainedRun:
    """Load a finished run. The images it was trained on are not needed.

    Args:
        folder: the run folder, with ``config.yaml``, ``result.json``, ``per_class.csv`` and ``checkpoints/``.
        which: ``last``, ``best`` or the path of a checkpoint.
        trust: allow classes that are not carlt's own. That runs their code: only for folders that you made.
        modules: ``model``, ``loss`` and ``reg`` of a run that ``carlt.train`` was given such objects for: objects like
            them, which take the weights of the run.

    Raises:
        CarltError: no finished run, a damaged file, or a class that is not carlt's own without ``trust``.
    """
    folder = Path(folder)
    if wrong := sorted(modules.keys() - {"model", "loss", "reg"}):
        raise CarltError(f"load_run: {wrong[0]}= is none of model=, loss=, reg=")
    quiet_libraries()
    config = load_config(folder, trust=trust)
    run = finished_run(folder)
    counts = torch.tensor([each.train_count for each in run.classes])
    data: Any = part_class(config, "data")
    known: Any = SimpleNamespace(
        num_classes=len(counts),
        class_counts=counts,
        channels=data.channels,
        mean=data.mean,
        std=data.std,
        image_size=config.data.image_size,
        normalisation="own",  # the checkpoint has the mean and deviation
    )
    with given(modules):
        module = build_module(without_initial_weights(config), known)
    path = paths.chosen_checkpoint(folder, which)
    load_weights(module, read_checkpoint(path), path, folder)
    module.drop_last_weights()
    return TrainedRun(
        folder=folder,
        model=module.eval(),
        transform=build(config, "aug.eval_view", image_size=config.data.image_size),
        class_names=[each.class_name for each in run.classes],
        class_counts=counts,
        metrics=run.result["metrics"],
        result=run.result,
        config=config,
        checkpoint=path,
        tau=_recorded_tau(folder, run.result) if which == "last" else None,
        class_offsets=_recorded_offsets(folder, run.result, len(counts)) if which == "last" else None,
    )


def _recorded_tau(folder: Path, result: Mapping[str, Any]) -> float | None:
    """The tau that ``carlt.evaluate posthoc=logit_adjusted`` chose on the validation split, if that was done."""
    path, posthoc = _posthoc_record(folder, "logit_adjusted", result)
    return None if posthoc is None else _checked_tau(posthoc.get("tau"), f"{path}: tau")


def _recorded_offsets(folder: Path, result: Mapping[str, Any], num_classes: int) -> Tensor | None:
    """The class offsets that ``carlt.evaluate posthoc=car`` found, if that was done."""
    path, posthoc = _posthoc_record(folder, "car", result)
    if posthoc is None:
        return None
    found = posthoc.get("offsets")
    offset: Any = found.get("offset") if isinstance(found, dict) else None
    fits = isinstance(offset, list) and len(offset) == num_classes
    if not fits or not all(type(each) in (int, float) and abs(each) <= LARGEST_OFFSET for each in offset):
        raise CarltError(
            f"{path}: posthoc.offsets.offset: expected a list of {num_classes} numbers in "
            f"[-{LARGEST_OFFSET:g}, {LARGEST_OFFSET:g}]; "
            f"run posthoc=car again, or remove {path.parent}"
        )
    return _checked_tau(posthoc.get("tau"), f"{path}: tau") * torch.tensor(offset, dtype=torch.float32)


def _posthoc_record(folder: Path, method: str, result: Mapping[str, Any]) -> tuple[Path, dict[str, Any] | None]:
    """The path of a record under ``posthoc/``, and what it says about the method; None if there is no record.

    CarltError if it is of another training than ``result``.
    """
    path = folder / "posthoc" / method / paths.RESULT
    if not path.is_file():
        return path, None
    found = read_result(path.parent)
    posthoc = found.get("posthoc")
    if not isinstance(posthoc, dict) or posthoc.get("method") != method:
        raise CarltError(f"{path} is no record of posthoc={method}: run that again, or remove {path.parent}")
    if any(found.get(key) != result.get(key) for key in ("run_hash", "epochs")):
        raise CarltError(
            f"{path} is of another training than {folder}: run posthoc={method} again, or remove {path.parent}"
        )
    return path, posthoc


def _checked_tau(value: Any, name: str) -> float:
    if problem := value_problem(name, value, Strength):
        raise CarltError(problem)
    return float(value)
