"""The examples of a run: its surest mistakes, each beside the training images that look most alike to the network."""

import numpy as np
import torch
from torch import Tensor, nn

from carlt.data import LongTailDataModule
from carlt.data.images import ArrayImages, Split, Splits
from carlt.evaluation.examples import COLUMNS, find_examples
from carlt.losses import CrossEntropy
from carlt.metrics import ConfusionCounts
from carlt.reg import NoRegularizer
from carlt.training.module import LongTailClassifier
from carlt.training.optim import SGD


class Means(nn.Module):
    """Features are the pixels of a picture, logits its distances from the classes' means."""

    def __init__(self, means: Tensor):
        super().__init__()
        self.classifier = nn.Linear(means.shape[1], len(means))
        self.classifier.weight.data, self.classifier.bias.data = 2 * means, -means.square().sum(1)

    def features(self, images: Tensor) -> Tensor:
        return images.flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


class Pictures(LongTailDataModule):
    name, channels = "pictures", 1

    def load(self) -> Splits:
        draw = torch.Generator().manual_seed(0)
        splits = []
        for counts in ([20, 8, 4], [9, 9, 9]):
            targets = torch.arange(3).repeat_interleave(torch.tensor(counts))
            pixels = torch.randint(0, 256, (len(targets), 1, 2, 2), dtype=torch.uint8, generator=draw)
            splits.append(Split(ArrayImages(pixels), targets))
        return Splits(splits[0], None, splits[1], ["cat", "dog", "owl"])


def test_examples_are_those_of_a_loop() -> None:
    """The surest mistakes first, each beside the training image of either class whose features are nearest."""
    data = Pictures(image_size=2)
    means = torch.rand(3, 4, generator=torch.Generator().manual_seed(1))
    module = LongTailClassifier(
        model=Means(means), loss=CrossEntropy([20, 8, 4]), reg=NoRegularizer(), optim=SGD(0.1),
        class_counts=data.class_counts, mean=(0.0,), std=(1.0,),
    ).eval()  # fmt: skip
    (train, test), counts = (data.splits.train, data.splits.test), ConfusionCounts(3)
    with torch.no_grad():
        logits = module(test.images.pixels)
    counts.update(logits, test.targets)
    found = find_examples(module, data, counts.evaluation())
    confidence, predicted = logits.softmax(1).max(1)
    unit = [nn.functional.normalize(part.images.pixels.flatten(1).float(), dim=1) for part in (train, test)]
    rows = dict(zip(found.titles.tolist(), zip(found.images, found.captions, strict=True), strict=True))
    names, pairs = data.class_names, 0
    for true, name in enumerate(names):
        for other in {None, *range(3)} - {true}:
            wrong = [i for i in range(27) if test.targets[i] == true and predicted[i] != true]
            wrong = [i for i in wrong if other is None or predicted[i] == other]
            if not wrong:
                continue
            order = sorted(wrong, key=lambda i: -float(confidence[i]))[:COLUMNS]
            right = 9 - int((predicted[test.targets == true] != true).sum())
            end = f": {right} of 9 right" if other is None else f" as {names[other]}"
            images, captions = rows.pop(f"{name} ({data.class_counts[true]} training images){end}")
            for i, pictures, texts in zip(order, images, captions, strict=False):
                near = [k for k in range(32) if train.targets[k] in (true, predicted[i])]
                best = max(near, key=lambda k: float(unit[1][i] @ unit[0][k]))
                assert texts[0] == f"{names[predicted[i]]}, {100 * float(confidence[i]):.0f} %"
                assert texts[1] == f"nearest: {names[train.targets[best]]}"
                assert np.array_equal(pictures[0], test.images.pixels[i].numpy())
                assert np.array_equal(pictures[1], train.images.pixels[best].numpy())
                pairs += 1
            assert (captions[len(order) :] == "").all()
    assert not rows
    assert pairs > 10
