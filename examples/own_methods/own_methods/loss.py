"""A loss of one's own."""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from carlt.losses.base import Loss, gather_labels
from carlt.ranges import Positive, checked


class ProbabilityLoss(Loss):
    """1 - p_y, p = softmax(z / temperature): one minus the probability of the true class.

    Args:
        class_counts: training images of each class, (C,).
        temperature: of the softmax, positive.
        weighting: ``effective_number_beta``, ``drw_start`` and ``divide_by``, see ``Loss``.
    """

    paper: ClassVar[str] = "Probability loss (ours)"

    @checked
    def __init__(self, class_counts: Sequence[int] | Tensor, temperature: Positive = 1.0, **weighting: Any):
        super().__init__(class_counts, **weighting)
        self.temperature = temperature

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        """One minus the probability of the label, (N,)."""
        return gather_labels(1 - (logits / self.temperature).softmax(1), targets)
