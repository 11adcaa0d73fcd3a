"""Losses: (logits (N, C), labels (N,) or soft labels (N, C)) to the mean over the batch, a scalar.

A contrastive loss (``contrast_views`` above 0) takes an embedding of further views and the labels besides.
"""

from carlt.losses.balanced_contrastive import BalancedContrastive
from carlt.losses.cross_entropy import CrossEntropy
from carlt.losses.logit_adjusted import BalancedSoftmax, LogitAdjusted

__all__ = ["BalancedContrastive", "BalancedSoftmax", "CrossEntropy", "LogitAdjusted"]
