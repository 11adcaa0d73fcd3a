"""Changes of a trained classifier without training: rescaled weights, logits without the prior."""

from collections.abc import Sequence

import torch
from torch import Tensor

from carlt.errors import CarltError
from carlt.functional.prior import logit_adjustment


def tau_normalized(weight: Tensor, tau: float) -> Tensor:
    """w_c / ||w_c||^tau, to be used without a bias (Kang et al., ICLR 2020, section 4.3).

    Frequent classes have longer weight vectors: tau = 0 leaves them so, 1 makes all lengths 1. It is chosen on a
    validation split, from 0 to 2.

    Args:
        weight: w, of a linear classifier, (C, D).
        tau: at least 0.

    Returns:
        The new weights, (C, D); a zero row stays zero.

    Raises:
        CarltError: ``tau`` below 0.
    """
    if not tau >= 0:
        raise CarltError(f"tau={tau} is out of range: it is at least 0")
    norm = torch.linalg.vector_norm(weight, dim=1, keepdim=True)
    return weight / torch.where(norm > 0, norm, 1).pow(tau)


def without_prior(logits: Tensor, counts: Sequence[int] | Tensor, tau: float = 1.0) -> Tensor:
    """z - tau log pi, pi_c = n_c / N: post-hoc logit adjustment (Menon et al., ICLR 2021, eq. 9).

    Args:
        logits: z of a network trained with plain cross-entropy, (..., C).
        counts: n, training images of each class, each at least 1, (C,).
        tau: strength; at 1 the best choice under equally frequent classes, where softmax(z) is the posterior.

    Returns:
        The new logits, (..., C).

    Raises:
        CarltError: see :func:`carlt.functional.prior.check_class_counts`; or C differs.
    """
    offset = logit_adjustment(counts, tau)
    if logits.shape[-1] != len(offset):
        raise CarltError(f"logits of {logits.shape[-1]} classes do not fit class_counts of {len(offset)}")
    return logits - offset.to(logits)
