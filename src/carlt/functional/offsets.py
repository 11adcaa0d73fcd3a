"""Class offsets of a trained network, found on its own training images: CAR after training."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from carlt.errors import CarltError
from carlt.functional import confusion as cf
from carlt.functional.prior import check_class_counts, class_margins, frequency_weights
from carlt.functional.spectral import perron_vector

MOST_STEPS = 100
CHUNK = 1 << 22  # logits whose contributions are in memory at once


class ClassOffsets(NamedTuple):
    """Offsets to add to the logits, and how well they balance the confusion."""

    offset: Tensor
    """b, (C,), in logits, of mean 0, float32 or float64 like the logits."""
    spectral_radius: float
    """rho of Lambda C(b), and its norm, too, where it is balanced."""
    imbalance: float
    """sum_c |r_c^2 - l_c^2|, in [0, 2]: 0 where every class is mistaken for others as much as others are for it."""
    steps: int


@torch.no_grad()
def class_offsets(
    logits: Tensor,
    labels: Tensor,
    class_counts: Sequence[int] | Tensor | None = None,
    *,
    class_margin: float = 12.0,
    r0: float = 0.2,
    tol: float = 1e-3,
) -> ClassOffsets:
    """Offsets b that balance the training set's confusion: add them to the logits of new images.

    M = Lambda C(z + b), with C the class means of the surrogate (arXiv 2603.16732, eq. 7) over all images, and its
    Perron vectors, M r = rho r and M^T l = rho l, give

        b_c <- b_c + log(r_c / l_c) / 2    until r = l.

    r_c says how much class c is mistaken for others, l_c how much others are mistaken for it. Adding b turns M into
    about D^-1 M D, D = diag(exp(b)). Its norm is least, and equal to rho, for this b (Stoer & Witzgall, Numerische
    Mathematik 4, 1962); the step is repeated because "about" is not "exactly". A true class j has to be right by
    ``class_margin`` sqrt(n_min / n_j) logits: the network has seen these images, and that flatters a class the more the
    fewer it has. No image is needed that the network was not trained on.

    >>> from carlt.functional import class_offsets
    >>> logits = torch.tensor([[5.0, 0.0], [4.0, 0.0], [6.0, 1.0], [2.0, 1.0]])  # the last one is of class 1
    >>> class_offsets(logits, torch.tensor([0, 0, 0, 1])).offset[1] > 0
    tensor(True)

    Args:
        logits: z of training images in the view of evaluation, floating, (N, C), finite.
        labels: y, int64 in [0, C), (N,).
        class_counts: n, training images of each class, (C,); by default as in ``labels``, which then hold every class.
        class_margin: of the rarest class, in logits, at least 0.
        r0: see :func:`carlt.functional.prior.frequency_weights`.
        tol: of ``imbalance``, where the search ends; it also ends after ``MOST_STEPS`` steps.

    Raises:
        CarltError: logits that are not finite or fit no ``labels``, a label outside [0, C), a count below 1, or a
            number out of range.
    """
    num_classes = logits.shape[-1]
    cf.check_batch(logits, labels, num_classes)
    if labels.is_floating_point():
        raise CarltError(f"labels are classes, int64 (N,), not {labels.dtype}")
    if not logits.isfinite().all():
        raise CarltError("logits of training images are not finite: the network has diverged")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise CarltError(f"labels are in [0, {num_classes}), not {int(labels.min())} to {int(labels.max())}")
    counts = check_class_counts(torch.bincount(labels, minlength=num_classes) if class_counts is None else class_counts)
    if len(counts) != num_classes:
        raise CarltError(f"logits of {num_classes} classes do not fit class_counts of {len(counts)}")
    if logits.dtype != torch.float64:
        logits = logits.float()
    row_weight = frequency_weights(counts, r0).to(logits)
    margins = class_margins(counts, class_margin).to(logits)
    b = torch.zeros_like(row_weight)
    r = left = torch.full_like(row_weight, num_classes**-0.5)
    for steps in range(MOST_STEPS + 1):
        m = row_weight[:, None] * _mean_confusion(logits, labels, b, margins)
        radius, r = perron_vector(m, r)
        _, left = perron_vector(m.T, left)
        imbalance = float((r.square() - left.square()).abs().sum())
        if imbalance <= tol or steps == MOST_STEPS:
            break
        tiny = torch.finfo(r.dtype).eps
        b += (r.clamp_min(tiny) / left.clamp_min(tiny)).log() / 2
        b -= b.mean()
    return ClassOffsets(b, float(radius), imbalance, steps)


def _mean_confusion(logits: Tensor, labels: Tensor, offset: Tensor, margins: Tensor) -> Tensor:
    """C(z + b), (C, C)."""
    size = logits.shape[1]
    sums, mass = logits.new_zeros(size, size), logits.new_zeros(size)
    for part, label in zip(*(x.split(max(1, CHUNK // size)) for x in (logits, labels)), strict=True):
        cf.accumulate_confusion_(sums, mass, part + offset, label, margins)
    return cf.mean_confusion(sums, mass)
