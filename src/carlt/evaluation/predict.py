"""Predictions of a trained network for image files: the most probable classes of each."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from carlt.data.io.decode import decode
from carlt.data.loaders import default_num_workers
from carlt.errors import CarltError
from carlt.ranges import Count, value_problem

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey, ITU-R BT.601, as Pillow converts."""


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image file, or the reason why it has none."""

    path: Path
    classes: list[str]
    """Names, the most probable class first; empty if the file could not be read."""
    probabilities: list[float]
    """Softmax probability of each of ``classes``, in [0, 1]."""
    error: str | None = None
    """Why the file could not be read; None for a prediction."""
    adjusted_classes: Sequence[str] = ()
    """The most probable classes if no class were favoured; empty without an adjustment (``TrainedRun.adjustment``)."""
    adjusted_probabilities: Sequence[float] = ()
    """Probability of each of ``adjusted_classes``: softmax(z + adjustment), in [0, 1]."""


@dataclass(frozen=True)
class Network:
    """What a prediction needs of a trained network.

    ``logits``: uint8 (N, channels, S, S) to (N, C) on the CPU. ``transform``: one image, uint8 (1, channels, H, W) of
    any size, to (1, channels, S, S). ``adjustment``: what adjusted predictions add to the logits, (C,), or None.
    """

    logits: Callable[[Tensor], Tensor]
    transform: Callable[[Tensor], Tensor]
    class_names: Sequence[str]
    channels: int
    adjustment: Tensor | None = None


def predict(network: Network, paths: Iterable[Path], *, top_k: int, batch_size: int) -> Iterator[Prediction]:
    """Predict file after file, in the order of ``paths``. A file that cannot be read is reported, and the rest go on.

    Args:
        top_k: classes per image, at least 1; at most C are given.
        batch_size: images per step of the network, at least 1.

    Raises:
        CarltError: ``top_k`` or ``batch_size`` is no integer, or below 1.
    """
    for name, value in (("top_k", top_k), ("batch_size", batch_size)):
        if problem := value_problem(name, value, Count):
            raise CarltError(problem)
    return _predict(network, paths, min(top_k, len(network.class_names)), batch_size)


def _predict(network: Network, paths: Iterable[Path], top_k: int, batch_size: int) -> Iterator[Prediction]:
    for batch, read in _read_ahead(paths, lambda path: _read(path, network), batch_size):
        pictures = [each for each in read if isinstance(each, Tensor)]
        logits = network.logits(torch.cat(pictures)) if pictures else torch.empty(0, len(network.class_names))
        plain = _ranked(logits, top_k, network.class_names)
        adjusted = None
        if network.adjustment is not None:
            adjusted = _ranked(logits + network.adjustment, top_k, network.class_names)
        for path, each in zip(batch, read, strict=True):
            if isinstance(each, str):
                yield Prediction(path, [], [], each)
            else:
                yield Prediction(path, *next(plain), None, *(next(adjusted) if adjusted else ((), ())))


def _read_ahead(
    paths: Iterable[Path], read: Callable[[Path], Tensor | str], size: int
) -> Iterator[tuple[list[Path], list[Tensor | str]]]:
    """Batches of ``size`` paths with what ``read`` gives of them; the next batch is read while one is in use."""
    rest, reading = iter(paths), deque[tuple[list[Path], Iterator[Tensor | str]]]()
    # Threads, not processes: decoders release Python's lock.
    with ThreadPoolExecutor(max(1, default_num_workers())) as pool:
        while True:
            while len(reading) < 2 and (batch := list(islice(rest, size))):
                reading.append((batch, pool.map(read, batch)))
            if not reading:
                return
            batch, results = reading.popleft()
            yield batch, list(results)


def _ranked(logits: Tensor, top_k: int, class_names: Sequence[str]) -> Iterator[tuple[list[str], list[float]]]:
    """Of each image the names of its most probable classes, and their probabilities."""
    values, numbers = logits.softmax(1).topk(top_k)
    for row, probabilities in zip(numbers.tolist(), values.tolist(), strict=True):
        yield [class_names[number] for number in row], probabilities


def _read(path: Path, network: Network) -> Tensor | str:
    """The transformed image (1, channels, S, S), or the reason why there is none."""
    try:
        image = decode(path)[None]
    except CarltError as error:
        return str(error)
    return network.transform(_grey(image) if network.channels == 1 else image)


def _grey(image: Tensor) -> Tensor:
    """(1, 1, H, W) of (1, 3, H, W), rounded: torchvision truncates, so its grey of a grey picture is darker."""
    weights = torch.tensor(LUMA).view(3, 1, 1)
    return (image * weights).sum(1, keepdim=True).round().to(torch.uint8)
