"""torchmetrics shells over ``carlt.functional.accuracy``."""

from carlt.metrics.confusion_counts import ConfusionCounts, Evaluation

__all__ = ["ConfusionCounts", "Evaluation"]
