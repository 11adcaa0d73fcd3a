"""Test images of the worst classes and of the most confused pairs, each with the nearest training image."""

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from carlt.data import LongTailDataModule
from carlt.data.images import Split
from carlt.data.loaders import eval_loader
from carlt.errors import CarltError
from carlt.functional.accuracy import class_accuracy, worst_first
from carlt.metrics import Evaluation
from carlt.models.classifier import extract_features
from carlt.runs.examples import Examples
from carlt.runs.text import counted
from carlt.training.module import LongTailClassifier

ROWS = 6
"""Number of worst classes, and of confused pairs."""
COLUMNS = 3
"""Test images per row."""
PER_CLASS = 60
"""Images of a class that are searched at most, in their order."""
PIXELS = 96
"""Larger pictures are reduced to this size."""
Outputs = tuple[Tensor, Tensor, Tensor]


def find_examples(module: LongTailClassifier, data: LongTailDataModule, test: Evaluation) -> Examples:
    """The pictures for ``examples.npz``; a nearest image has the largest cosine of the features, among the training
    images of the true and of the predicted class."""
    rows: list[tuple[str, int, int | None]] = [
        ("worst classes", label, None) for label in worst_classes(test, data.class_counts)
    ]
    rows += [("confused pairs", true, predicted) for true, predicted in confused_pairs(test)]
    # The same classes come again and again: in several rows, and as nearest images of several test images.
    outputs = functools.lru_cache(maxsize=16)(functools.partial(_outputs, module, data))
    training = module.training
    module.eval()
    try:
        filled = [_row(outputs, data, true, predicted) for _, true, predicted in rows]
    finally:
        module.train(training)
    size = min(PIXELS, data.image_size)
    images = torch.zeros(len(rows), COLUMNS, 2, data.channels, size, size, dtype=torch.uint8)
    captions = [[["", ""] for _ in range(COLUMNS)] for _ in rows]
    for r, found in enumerate(filled):
        for k, (pair, texts) in enumerate(found):
            images[r, k], captions[r][k] = _reduced(pair, size), texts
    titles = [_title(data, test, true, predicted) for _, true, predicted in rows]
    return Examples(
        np.array([kind for kind, *_ in rows], dtype=str), np.array(titles, dtype=str), images.numpy(),
        np.array(captions, dtype=str).reshape(len(rows), COLUMNS, 2),
    )  # fmt: skip


def worst_classes(test: Evaluation, train_counts: Tensor) -> list[int]:
    """The classes with the lowest test accuracy, of equal ones the rarest first, without classes that have no wrong
    image."""
    accuracy = class_accuracy(test.correct, test.total)
    return [label for label in worst_first(accuracy, train_counts)[:ROWS] if accuracy[label] < 1]


def confused_pairs(test: Evaluation) -> list[tuple[int, int]]:
    """The pairs of true and predicted class with the largest share of the true class's images."""
    wrong = test.true != test.predicted
    true, predicted = test.true[wrong], test.predicted[wrong]
    share = test.count[wrong] / test.total.cpu()[true]
    first = share.argsort(descending=True, stable=True)[:ROWS]
    return [(int(true[k]), int(predicted[k])) for k in first]


def _row(
    outputs: Callable[[str, int], Outputs], data: LongTailDataModule, true: int, wanted: int | None
) -> list[tuple[Tensor, list[str]]]:
    """Wrong test images of class ``true`` (predicted as ``wanted``, if given), most confident first."""
    images, logits, features = outputs("test", true)
    confidence, predicted = logits.softmax(1).max(1)
    wrong = predicted != true if wanted is None else predicted == wanted
    order = [int(i) for i in confidence.argsort(descending=True, stable=True) if wrong[i]][:COLUMNS]
    found = []
    for i in order:
        other = int(predicted[i])
        near = [outputs("train", label) for label in (true, other)]
        cosine = torch.cat([nn.functional.cosine_similarity(part[2], features[i : i + 1]) for part in near])
        if not len(cosine):
            continue
        best = int(cosine.argmax())
        label = true if best < len(near[0][0]) else other
        pair = torch.stack([images[i], torch.cat([part[0] for part in near])[best]])
        texts = [
            f"{data.class_names[other]}, {100 * float(confidence[i]):.0f} %",
            f"nearest: {data.class_names[label]}",
        ]
        found.append((pair, texts))
    return found


@torch.no_grad()
def _outputs(module: LongTailClassifier, data: LongTailDataModule, name: str, label: int) -> Outputs:
    """The first images of a class in a split, their logits and their features, on the CPU."""
    split: Split = getattr(data.splits, name)
    places = (split.targets == label).nonzero().flatten()[:PER_CLASS]
    device = module.mean.device
    parts = []
    for images, _ in eval_loader(split.subset(places), data.eval_view, PER_CLASS, 0, device) if len(places) else ():
        images = images.to(device)
        logits = module(images)
        try:
            features = extract_features(module.evaluated, module.normalise(images))
        except CarltError:  # a network without features of its own
            features = logits
        parts.append((images.cpu(), logits.float().cpu(), features.float().flatten(1).cpu()))
    if not parts:
        size = data.image_size
        return torch.empty(0, data.channels, size, size, dtype=torch.uint8), torch.empty(0, 1), torch.empty(0, 1)
    images, logits, features = (torch.cat(column) for column in zip(*parts, strict=True))
    return images, logits, features


def _reduced(images: Tensor, size: int) -> Tensor:
    if images.shape[-1] <= size:
        return images
    reduced = nn.functional.interpolate(images.float(), (size, size), mode="bilinear", antialias=True)
    return reduced.round().clamp(0, 255).to(torch.uint8)


def _title(data: LongTailDataModule, test: Evaluation, true: int, predicted: int | None) -> str:
    name = f"{data.class_names[true]} ({counted(int(data.class_counts[true]), 'training image')})"
    if predicted is None:
        return f"{name}: {int(test.correct[true])} of {int(test.total[true])} right"
    return f"{name} as {data.class_names[predicted]}"
