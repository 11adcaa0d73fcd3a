"""Long-tailed accuracy, from counts.

Every function takes per-class counts or accuracies and returns plain tensors. A class without test images is *unseen*:
its accuracy is NaN and no mean includes it, because 0 would read as "always wrong".
"""

import math

import torch
from torch import Tensor

from carlt.shots import FEW_BELOW, MANY_ABOVE


def class_groups(train_counts: Tensor) -> dict[str, Tensor]:
    """Masks (C,) of the ``many``-, ``medium``- and ``few``-shot classes (Liu et al., CVPR 2019, section 4.1).

    >>> {name: mask.tolist() for name, mask in class_groups(torch.tensor([500, 50, 5])).items()}
    {'many': [True, False, False], 'medium': [False, True, False], 'few': [False, False, True]}
    """
    many, few = train_counts > MANY_ABOVE, train_counts < FEW_BELOW
    return {"many": many, "medium": ~many & ~few, "few": few}


def class_accuracy(correct: Tensor, total: Tensor) -> Tensor:
    """Accuracy of each class in [0, 1], float64 (C,); NaN where ``total`` is 0."""
    return correct.double() / torch.where(total > 0, total, torch.nan)


def worst_first(accuracy: Tensor, train_counts: Tensor) -> list[int]:
    """The classes with test images from the lowest accuracy (C,) to the highest, the rarest first of equal ones.

    >>> worst_first(torch.tensor([0.9, 0.2, float("nan"), 0.2]), torch.tensor([50, 20, 9, 5]))
    [3, 1, 0]
    """
    values, counts = accuracy.tolist(), train_counts.tolist()
    tested = [label for label, value in enumerate(values) if not math.isnan(value)]
    return sorted(tested, key=lambda label: (values[label], counts[label]))


def mean_of_worst(accuracy: Tensor, fraction: float) -> Tensor:
    """Mean over the worst ``fraction`` of the classes with test images; NaN if there is none.

    Args:
        accuracy: of each class, NaN for one without test images, (C,).
        fraction: in [0, 1], rounded to whole classes, at least one.

    >>> mean_of_worst(torch.tensor([0.9, 0.2, float("nan"), 0.4]), 0.5).item()
    0.30000001192092896
    """
    seen = accuracy[~accuracy.isnan()].sort().values
    return seen[: max(1, round(fraction * len(seen)))].mean()


def expected_calibration_error(count: Tensor, confidence: Tensor, correct: Tensor) -> Tensor:
    """ECE in [0, 1] from bins: sum_b n_b / n * |accuracy_b - confidence_b| (Naeini et al., AAAI 2015, eq. 3).

    Args:
        count: n_b, images of each confidence bin, (B,).
        confidence: sum of the largest probabilities of these images, (B,).
        correct: the number of them that are predicted correctly, (B,).
    """
    return (correct - confidence).abs().sum() / count.sum()


def summarise(correct: Tensor, total: Tensor, predicted: Tensor, train_counts: Tensor) -> dict[str, float]:
    """The long-tailed summary of one split, keys without prefix, accuracies in [0, 1].

    Args:
        correct, total, predicted: right answers, images and predictions of each class, (C,).
        train_counts: training images of each class (C,); they decide many / medium / few.

    >>> counts = torch.tensor([300, 9])  # training images
    >>> summary = summarise(torch.tensor([8, 1]), torch.tensor([10, 10]), torch.tensor([17, 3]), counts)
    >>> summary["accuracy"], summary["few"], summary["worst_class"]
    (0.45, 0.1, 0.1)

    Returns:
        ``accuracy`` over images, and over the classes with test images: ``balanced_accuracy`` (their mean), ``many``,
        ``medium``, ``few`` (means over the group, NaN for an empty one), ``worst_class``, ``worst_10pct`` (mean of the
        worst tenth, rounded to whole classes, at least one), ``classes_at_zero`` (their number), ``macro_f1``,
        ``geometric_mean`` and ``harmonic_mean``.
    """
    accuracy = class_accuracy(correct, total)
    seen = ~accuracy.isnan()
    of_seen = accuracy[seen]
    f1 = 2 * correct.double() / (total + predicted).clamp(min=1)
    groups = {name: accuracy[mask & seen].mean() for name, mask in class_groups(train_counts).items()}
    summary = {
        "accuracy": correct.sum().double() / total.sum(),
        "balanced_accuracy": of_seen.mean(),
        **groups,
        "worst_class": of_seen.min() if len(of_seen) else torch.tensor(torch.nan),
        "worst_10pct": mean_of_worst(accuracy, 0.1),
        "classes_at_zero": (of_seen == 0).sum(),
        "macro_f1": f1[seen].mean(),
        "geometric_mean": of_seen.log().mean().exp(),
        "harmonic_mean": 1 / (1 / of_seen).mean(),
    }
    return {name: float(value) for name, value in summary.items()}
