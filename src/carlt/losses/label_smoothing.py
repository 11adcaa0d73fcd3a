"""Label smoothing: a share of every label is spread over all classes."""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from carlt.losses.base import Loss, gather_labels
from carlt.ranges import Share, checked


class LabelSmoothing(Loss):
    """l(z, y) = -(1 - e) log p_y - e / C sum_c log p_c (Szegedy et al., CVPR 2016, section 7).

    Args:
        class_counts: training images of each class (C,).
        smoothing: e, in [0, 1]; 0.1 is usual, and 0.98 is label over-smoothing (LOS, Sun et al., ICLR 2025).
        weighting: ``effective_number_beta``, ``drw_start`` and ``divide_by``, see ``Loss``.
    """

    paper: ClassVar[str] = "Label smoothing (Szegedy et al., CVPR 2016)"

    @checked
    def __init__(self, class_counts: Sequence[int] | Tensor, smoothing: Share = 0.1, **weighting: Any):
        super().__init__(class_counts, **weighting)
        self.smoothing = smoothing

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        """-(1 - e) log p at the label, and e times the mean of -log p."""
        log_p = logits.log_softmax(1)
        return gather_labels(-(1 - self.smoothing) * log_p - self.smoothing * log_p.mean(1, keepdim=True), targets)
