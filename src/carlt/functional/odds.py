"""Odds of each class under a softmax, without cancellation."""

import torch
from torch import Tensor


def log_odds(logits: Tensor) -> Tensor:
    """log( p_c / (1 - p_c) ) = z_c - log sum_{k != c} e^z_k, p = softmax(z).

    Args:
        logits: z, floating, (N, C), C at least 2.

    Returns:
        The logarithms, (N, C), as exact where p_c is almost 1 as where it is almost 0.
    """
    log_p = logits.log_softmax(1)
    top = log_p.argmax(1, keepdim=True)
    # 1 - p loses its digits where p is near 1. That is at most one class: there it is the sum of the others.
    others = log_p.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True)
    return log_p - torch.log1p(-log_p.exp().scatter(1, top, 0.0)).scatter(1, top, others)
