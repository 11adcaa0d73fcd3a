"""Class offsets of a trained network, found on its own training images: CAR after training."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from carlt.errors import CarltError
from carlt.functional import confusion as cf
from carlt.functional.prior import check_class_counts, class_margins, frequency_weights
from carlt.functional.spectral import perron_vector, pieces

MOST_STEPS = 200
LEAST_SHARE = 1 / 8  # of a step that is taken where full ones bring no balance
LOGIT_STD = 3.3  # of the networks on which class_margin was chosen (experiments/cifar100_lt.md)


class ClassOffsets(NamedTuple):
    """Offsets to add to the logits, and how well they balance the confusion."""

    offset: Tensor
    """b, (C,), in logits, of mean 0; float64 for such logits, else float32."""
    spectral_radius: float
    """rho of Lambda C(b), and its norm, too, where it is balanced."""
    imbalance: float
    """sum_c |r_c^2 - l_c^2|, in [0, 2]: 0 where every class is mistaken for others as much as others are for it."""
    steps: int
    converged: bool
    """False where a step would still change an offset by more than ``tol`` after ``MOST_STEPS`` steps. The offsets are
    then those of the least imbalance."""
    class_margin: float
    """As given."""


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
    """Offsets b that balance the training set's confusion: add them to the logits of new images. carlt's own method.

    M = Lambda C(z + b), with C the class means of the surrogate (arXiv 2603.16732, eq. 7) over all images. Its Perron
    vectors, M r = rho r and M^T l = rho l, give

        b_c <- b_c + log(r_c / l_c) / 2    until r = l.

    r_c says how much class c is mistaken for others, l_c how much others are mistaken for it. A step delta turns M into
    about D^-1 M D, D = diag(exp(delta)), whose norm is least, and equal to rho, for delta = log(r / l) / 2 (Stoer &
    Witzgall, Numerische Mathematik 4, 1962). The step is repeated, and halved where r and l come no closer, because the
    softmax of the surrogate depends on b as well.

    For the search, logits are scaled to a standard deviation of ``LOGIT_STD`` about the means of images and of classes,
    where true classes count alike. So logits a z + d have the offsets a b - d. A true class j has to be right by
    ``class_margin`` sqrt(n_min / n_j) such logits. The network has seen these images, so each class looks better than
    it is on new images, and rare classes most. All images of a class count alike, so a sample of the training images
    will do. Classes that are hardly ever confused with the rest have little weight in r and l; offsets between such
    groups are not well determined.

    >>> from carlt.functional import class_offsets
    >>> logits = torch.tensor([[5.0, 0.0], [4.0, 0.0], [6.0, 1.0], [2.0, 1.0]])  # the last one is of class 1
    >>> class_offsets(logits, torch.tensor([0, 0, 0, 1])).offset[1] > 0
    tensor(True)

    Args:
        logits: z of training images in the view of evaluation, floating, (N, C), finite.
        labels: y, whole numbers in [0, C), (N,), each at least once.
        class_counts: n, training images of each class, (C,); by default as in ``labels``.
        class_margin: of the rarest class, in logits of standard deviation ``LOGIT_STD``, at least 0.
        r0: see :func:`carlt.functional.prior.frequency_weights`.
        tol: the search ends where no offset changes by more in a step, in such logits, above 0.

    Raises:
        CarltError: logits that are not finite or fit no ``labels``, a label outside [0, C), a class without a label, or
            a number out of range.
    """
    num_classes = logits.shape[-1] if logits.ndim else 0
    cf.check_batch(logits, labels, num_classes)
    if labels.is_floating_point():
        raise CarltError(f"labels are classes, whole numbers (N,), not {labels.dtype}")
    if not tol > 0:
        raise CarltError(f"tol={tol}: expected a number above 0")
    labels = labels.long()
    if labels.min() < 0 or labels.max() >= num_classes:
        raise CarltError(f"labels are in [0, {num_classes}), not {int(labels.min())} to {int(labels.max())}")
    images = torch.bincount(labels, minlength=num_classes)
    counts = check_class_counts(images if class_counts is None else class_counts).to(logits.device)
    if len(counts) != num_classes:
        raise CarltError(f"logits of {num_classes} classes do not fit class_counts of {len(counts)}")
    if not images.all():
        raise CarltError(f"class {int((images == 0).nonzero()[0])} has no image among the {len(labels):,} given")
    row_weight, margins = frequency_weights(counts, r0)[:, None], class_margins(counts, class_margin)
    mean, std = _mean_and_std(logits, labels, images)
    if not std.isfinite():
        raise CarltError("logits of training images are not finite: the network has diverged")
    scale = LOGIT_STD / std if std > 0 else std.new_ones(())

    dtype = torch.promote_types(logits.dtype, torch.float32)
    b = -scale * mean
    r = left = torch.full_like(b, num_classes**-0.5)
    best, share = ClassOffsets((b / scale).to(dtype), 0.0, torch.inf, 0, False, class_margin), 1.0
    for steps in range(MOST_STEPS + 1):
        m = row_weight * _mean_confusion(logits, labels, scale, b, margins)
        radius, r = perron_vector(m, r)
        _, left = perron_vector(m.T, left)
        imbalance = float((r.square() - left.square()).abs().sum())
        tiny = torch.finfo(r.dtype).tiny
        step = (r.clamp_min(tiny) / left.clamp_min(tiny)).log() / 2
        converged = bool(step.abs().max() <= tol)
        if converged or imbalance < best.imbalance:
            offset = ((b - b.mean()) / scale).to(dtype)
            best = ClassOffsets(offset, float(radius), imbalance, steps, converged, class_margin)
        else:
            share = max(share / 2, LEAST_SHARE)
        if converged:
            break
        b = b + share * step
    return best


def _mean_and_std(logits: Tensor, labels: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of each class's logit (C,) and standard deviation () about image and class means, float64, where each true
    class has the same weight."""
    size = logits.shape[1]
    mean = logits.new_zeros(size, dtype=torch.float64)
    square = mean.new_zeros(())
    for part, piece in pieces(logits, None):
        centred = piece.double()
        centred -= centred.mean(1, keepdim=True)
        weight = (1 / (size * images[labels[part]].double()))[:, None]
        mean += (weight * centred).sum(0)
        square += (weight * centred.square()).sum()
    return mean, (square / size - mean.square().mean()).clamp_min(0).sqrt()


def _mean_confusion(logits: Tensor, labels: Tensor, scale: Tensor, offset: Tensor, margins: Tensor) -> Tensor:
    """C(scale z + b) in float64, (C, C)."""
    size = logits.shape[1]
    sums, mass = offset.new_zeros(size, size), offset.new_zeros(size)
    for part, piece in pieces(logits, None):
        cf.accumulate_confusion_(sums, mass, piece.double() * scale + offset, labels[part], margins)
    return cf.mean_confusion(sums, mass)
