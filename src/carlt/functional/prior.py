"""The class prior of a long-tailed training set, and the weights and offsets built from it."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from carlt.errors import CarltError


def check_class_counts(counts: Sequence[int] | Tensor) -> Tensor:
    """Training images of each class as a checked int64 tensor (C,).

    Raises:
        CarltError: fewer than two classes, a count that is not whole, or a class without images.
    """
    if isinstance(counts, Mapping):
        raise CarltError("class_counts is a mapping; give a list of the numbers of images, in the order of the classes")
    try:
        given = torch.as_tensor(counts)
    except (TypeError, ValueError, RuntimeError):  # of texts, or lists of different lengths
        raise CarltError(f"class_counts: expected a list of numbers of images, got {str(counts)[:80]!r}") from None
    if given.ndim != 1 or len(given) < 2:
        raise CarltError(
            f"class_counts needs one number per class for at least 2 classes, not shape {tuple(given.shape)}"
        )
    real = given.is_floating_point()
    if given.dtype == torch.bool or (real and not (torch.equal(given, given.round()) and (given < 2.0**63).all())):
        raise CarltError(
            f"class_counts: expected finite whole numbers of images, got {given.dtype} {given[:8].tolist()}"
        )
    if (given < 1).any():
        empty = (given < 1).nonzero().flatten().tolist()
        shown = ", ".join(f"class {c}: {int(given[c])}" for c in empty[:5])
        raise CarltError(
            f"class_counts has {len(empty)} of {len(given)} classes below 1 ({shown}); "
            "a class without training images has no frequency: leave it out and renumber the others"
        )
    return given.to(torch.int64)


def relative_frequency(counts: Sequence[int] | Tensor) -> Tensor:
    """m_j = n_j / sum_k n_k.

    Args:
        counts: n, training images of each class, each at least 1, (C,).

    Returns:
        m in float64, (C,), in (0, 1), summing to 1.

    Raises:
        CarltError: see :func:`check_class_counts`.
    """
    n = check_class_counts(counts).double()
    return n / n.sum()


def frequency_weights(counts: Sequence[int] | Tensor, r0: float = 0.2) -> Tensor:
    """CAR's row weights lambda_j = (m_j + r0)^(-1/2), m the relative frequencies (arXiv 2603.16732, eq. 9).

    Args:
        counts: training images of each class, each at least 1, (C,).
        r0: smoothing, at least 0; larger is flatter.

    Returns:
        lambda in float64, (C,), positive, larger for rarer classes.

    Raises:
        CarltError: ``r0`` below 0, or see :func:`check_class_counts`.
    """
    if not 0 <= r0 < math.inf:
        raise CarltError(f"r0 smooths class frequencies and is a number, at least 0, not {r0}")
    return (relative_frequency(counts) + r0).rsqrt()


def effective_number_weights(counts: Sequence[int] | Tensor, beta: float = 0.9999) -> Tensor:
    """Class-balanced weights w_j ~ (1 - beta) / (1 - beta^n_j), scaled to mean 1 (Cui et al., CVPR 2019, eq. 2-3).

    Args:
        counts: training images of each class, each at least 1, (C,).
        beta: in [0, 1]; 0 weighs all classes alike, 1 is the limit, inverse frequency.

    Returns:
        w in float64, (C,), positive, mean 1.

    Raises:
        CarltError: ``beta`` outside [0, 1], or see :func:`check_class_counts`.
    """
    if not 0 <= beta <= 1:
        raise CarltError(f"beta of the effective number is in [0, 1], not {beta}")
    n = check_class_counts(counts).double()
    weights = (1 - beta) / (1 - beta**n) if beta < 1 else 1 / n
    return weights / weights.mean()


def power_weights(counts: Sequence[int] | Tensor, power: float) -> Tensor:
    """Weights w_j ~ n_j^-power, scaled to mean 1 (generalized re-weighting; Zhang et al., CVPR 2021, section 3).

    Args:
        counts: n, training images of each class, each at least 1, (C,).
        power: 0 weighs all classes alike, 1 is inverse frequency.

    Returns:
        w in float64, (C,), positive, mean 1.

    Raises:
        CarltError: see :func:`check_class_counts`.
    """
    weights = check_class_counts(counts).double() ** -power
    return weights / weights.mean()


def logit_adjustment(counts: Sequence[int] | Tensor, tau: float = 1.0) -> Tensor:
    """The offset tau * log m_j to add to logits in training (Menon et al., ICLR 2021, eq. 10).

    Args:
        counts: training images of each class, each at least 1, (C,).
        tau: strength; 1 is Bayes-consistent for the balanced error, 0 is no adjustment.

    Returns:
        The offset in float64, (C,).

    Raises:
        CarltError: see :func:`check_class_counts`.
    """
    return tau * relative_frequency(counts).log()


def class_margins(counts: Sequence[int] | Tensor, largest: float) -> Tensor:
    """The margin of each class, ``largest`` sqrt(n_min / n_j). carlt's own, not in the paper of CAR.

    The error of a class on new images exceeds that on its n_j training images by about 1 / sqrt(n_j), so the margin of
    a rare class is larger.

    Args:
        counts: n, training images of each class, each at least 1, (C,).
        largest: of the rarest class, in logits, at least 0.

    Returns:
        The margins in float64, (C,), in [0, ``largest``].

    Raises:
        CarltError: ``largest`` below 0, or see :func:`check_class_counts`.
    """
    if not 0 <= largest < math.inf:
        raise CarltError(f"class_margin={largest}: expected a number, at least 0")
    frequency = relative_frequency(counts)
    return largest * (frequency.min() / frequency).sqrt()
