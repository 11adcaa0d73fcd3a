"""torchmetrics shells over ``carlt.functional.accuracy``."""

from carlt.metrics.confusion_counts import ConfusionCounts, Evaluation, metric_names

__all__ = ["ConfusionCounts", "Evaluation", "metric_names"]
