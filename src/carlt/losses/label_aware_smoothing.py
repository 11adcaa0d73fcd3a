"""Label-aware smoothing: stronger smoothing for frequent classes."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor

from carlt.functional.prior import check_class_counts
from carlt.losses.base import Loss, gather_labels
from carlt.ranges import Share, checked

Over = Literal["all", "others"]


class LabelAwareSmoothing(Loss):
    """Cross-entropy with 1 - e_y on the label and e_y spread over the classes (Zhong et al., CVPR 2021, section 3).

    e_c = tail + (head - tail) sin( pi/2 (n_c - min n) / (max n - min n) )

    Args:
        class_counts: training images of each class, at least 1 each, (C,).
        head, tail: smoothing of the largest and the smallest class, in [0, 1]; all classes have ``head`` where they
            are equally large. The paper: 0.4 and 0.1 for CIFAR100-LT and Places-LT, 0.3 and 0 for CIFAR10-LT,
            ImageNet-LT and iNaturalist 2018.
        over: the classes that e_y is spread over: ``"all"``, e_y / C each, the label included (the released code), or
            ``"others"``, e_y / (C - 1) each (the paper).
        weighting: ``effective_number_beta``, ``drw_start`` and ``divide_by``, see ``Loss``.
    """

    paper: ClassVar[str] = "Label-aware smoothing, of MiSLAS (Zhong et al., CVPR 2021)"

    smoothing: Tensor

    @checked
    def __init__(
        self,
        class_counts: Sequence[int] | Tensor,
        head: Share = 0.4,
        tail: Share = 0.1,
        over: Over = "all",
        **weighting: Any,
    ):
        super().__init__(class_counts, **weighting)
        self.over = over
        counts = check_class_counts(class_counts).double()
        size = (counts - counts.min()) / (counts.max() - counts.min())
        self.register_constant("smoothing", tail + (head - tail) * (size.nan_to_num(1.0) * math.pi / 2).sin())

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        """-(1 - e) log p at the label, and -e times the mean of log p over all classes or the other ones."""
        log_p = logits.log_softmax(1)
        total, count = log_p.sum(1, keepdim=True), logits.shape[1]
        spread = total / count if self.over == "all" else (total - log_p) / (count - 1)
        return gather_labels(-(1 - self.smoothing) * log_p - self.smoothing * spread, targets)
