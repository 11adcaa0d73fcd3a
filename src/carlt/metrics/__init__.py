"""torchmetrics shells over ``carlt.functional.accuracy``."""

from carlt.metrics.evaluation import ConfusionCounts, Evaluation

__all__ = ["ConfusionCounts", "Evaluation"]
