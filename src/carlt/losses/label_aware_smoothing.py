"""Label-aware smoothing: stronger smoothing for frequent classes."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from carlt.functional.prior import check_class_counts
from carlt.losses.base import Loss, gather_labels
from carlt.ranges import Share, checked


class LabelAwareSmoothing(Loss):
    """Cross-entropy with 1 - e_y on the label, e_y / (C - 1) on each other class (Zhong et al., CVPR 2021, section 3).

    e_c = tail + (head - tail) sin( pi/2 (n_c - min n) / (max n - min n) )

    Args:
        class_counts: training images of each class, at least 1 each, (C,).
        head, tail: smoothing of the largest and the smallest class, in [0, 1]; all classes have ``head`` where they
            are equally large. The paper: 0.4 and 0.1 for CIFAR100-LT, 0.3 and 0 for large sets.
        weighting: ``effective_number_beta``, ``drw_start`` and ``divide_by``, see ``Loss``.
    """

    paper: ClassVar[str] = "Label-aware smoothing, of MiSLAS (Zhong et al., CVPR 2021)"

    smoothing: Tensor

    @checked
    def __init__(self, class_counts: Sequence[int] | Tensor, head: Share = 0.4, tail: Share = 0.1, **weighting: Any):
        super().__init__(class_counts, **weighting)
        counts = check_class_counts(class_counts).double()
        size = (counts - counts.min()) / (counts.max() - counts.min())
        self.register_constant("smoothing", tail + (head - tail) * (size.nan_to_num(1.0) * math.pi / 2).sin())

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        """-(1 - e) log p at the label, -e / (C - 1) log p at each other class."""
        log_p = logits.log_softmax(1)
        share = self.smoothing / (logits.shape[1] - 1)
        return gather_labels(-(1 - self.smoothing) * log_p - share * (log_p.sum(1, keepdim=True) - log_p), targets)
