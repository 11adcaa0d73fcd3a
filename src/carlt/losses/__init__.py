"""Losses: (logits (N, C), labels (N,) or soft labels (N, C)) to the mean over the batch, a scalar."""

from carlt.losses.cross_entropy import CrossEntropy
from carlt.losses.logit_adjusted import BalancedSoftmax, LogitAdjusted

__all__ = ["BalancedSoftmax", "CrossEntropy", "LogitAdjusted"]
