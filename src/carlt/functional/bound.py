"""The terms of the paper's bound on the error of a class, from counts (arXiv 2603.16732, proposition 3.2).

    e_j <= nu / lambda_j * || Lambda C ||_2 + E

e_j is the error of class j on new images, C the hard margin confusion of the whole training set, and E grows with the
complexity of the network and falls with the number of images. Rows of C are true classes, as everywhere in carlt.
"""

import math

import torch
from torch import Tensor

from carlt.functional.prior import frequency_weights
from carlt.functional.spectral import sparse_norm

MARGIN = 0.1
"""The margin of the hard confusion, in logits: CAR's default."""


def row_weight(train_counts: Tensor) -> Tensor:
    """CAR's lambda (C,) with the paper's r0; a class without training images counts as one with a single image."""
    return frequency_weights(train_counts.clamp_min(1)) if len(train_counts) > 1 else torch.ones(1)


def strongest_rival(logits: Tensor, labels: Tensor, margin: float = MARGIN) -> tuple[Tensor, Tensor]:
    """The class that each sample is nearest to be mistaken for, and whether it is within the margin.

    The hard margin confusion counts these pairs; ``contributions`` is its differentiable surrogate:

        C[j, i] = 1 / n_j * |{q : y_q = j, i = argmax over k != j of z_q[k], z_q[j] <= margin + z_q[i]}|

    Args:
        logits: z, floating, (N, C), C at least 2.
        labels: y, int64 in [0, C), (N,).
        margin: in logits; 0 counts the samples that are not right by any margin.

    Returns:
        The rival i of each sample, int64 (N,), and a mask (N,) of the samples that count; logits that are not numbers
        count.
    """
    column = labels[:, None]
    score, rival = logits.scatter(1, column, -torch.inf).max(1)
    return rival, ~(logits.gather(1, column)[:, 0] > margin + score)


def margin_terms(true: Tensor, rival: Tensor, count: Tensor, total: Tensor, weight: Tensor) -> dict[str, float]:
    """What the bound says about one split, from the cells of its hard margin confusion C.

    With the margin error of a class, e_j = sum_i C[j, i]:

        worst_margin_error    max_j e_j, the paper's || C ||_1
        weighted_worst_error  max_j lambda_j e_j, the paper's weighted worst-class error || C Lambda ||_1
        spectral_norm         || Lambda C ||_2, the largest singular value

    >>> true, rival, count = torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([1, 3])
    >>> margin_terms(true, rival, count, total=torch.tensor([10, 4]), weight=torch.tensor([1.0, 2.0]))
    {'worst_margin_error': 0.75, 'weighted_worst_error': 1.5, 'spectral_norm': 1.5}

    Args:
        true, rival: the classes of each cell that is not 0, int64, (P,).
        count: its images, (P,).
        total: images of each class, (C,); a class without images has no row.
        weight: lambda, (C,).
    """
    weight = weight.double()
    wrong = torch.zeros_like(weight).index_add_(0, true, count.double())
    seen = total > 0
    error = wrong[seen] / total[seen]
    return {
        "worst_margin_error": float(error.max()) if len(error) else math.nan,
        "weighted_worst_error": float((weight[seen] * error).max()) if len(error) else math.nan,
        "spectral_norm": float(sparse_norm(true, rival, weight[true] * count / total[true])),
    }


def class_bound(spectral_norm: float, weighted_worst_error: float, weight: float, error: float) -> dict[str, float]:
    """The terms of the bound for one class.

    nu = max_j lambda_j e_j / || Lambda C ||_2 on the training set, the smallest factor with which the first term covers
    the margin error of every class there; it is at most sqrt(C - 1). E depends on the norms of a network's layers and
    is not computed: ``remainder`` is what it has to cover.

    Args:
        spectral_norm, weighted_worst_error: ``margin_terms`` of the training set.
        weight: lambda_j.
        error: of the class on new images.

    Returns:
        ``nu`` (NaN where the norm is 0), ``lambda``, ``spectral_norm``, ``first_term`` nu / lambda_j || Lambda C ||_2,
        ``error`` and ``remainder``, the error minus the first term: at most 0 where that alone bounds it.
    """
    first = weighted_worst_error / weight
    return {
        "nu": weighted_worst_error / spectral_norm if spectral_norm > 0 else math.nan,
        "lambda": weight,
        "spectral_norm": spectral_norm,
        "first_term": first,
        "error": error,
        "remainder": error - first,
    }
