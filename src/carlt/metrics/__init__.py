"""Metrics that hold over batches and ranks: thin shells over ``carlt.functional.accuracy``, and a mean."""

from carlt.metrics.batch_mean import BatchMean
from carlt.metrics.confusion_counts import ConfusionCounts, Evaluation, metric_names

__all__ = ["BatchMean", "ConfusionCounts", "Evaluation", "metric_names"]
