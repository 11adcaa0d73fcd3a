"""Seesaw: samples of frequent classes lower a rare class's score less, unless they are mistaken for it."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional as F

from carlt.functional.prior import check_class_counts
from carlt.losses.base import Loss, sum_over_labels
from carlt.ranges import NonNegative, Share, checked


class Seesaw(Loss):
    """CE(z + log S_y), S_yj = min(1, n_j / n_y)^p max(1, p_j / max(p_y, eps))^q (Wang et al., CVPR 2021, section 3).

    p_j = softmax(z)[j] in S is taken as a constant. eps is that of the released code (mmdetection): without it nearly
    half of all pairs are compensated early in training on 1,000 classes, where every p is about 0.001. The paper counts
    n as it trains; here n are the training images, to which its counts become proportional under uniform sampling.

    Args:
        class_counts: n, training images of each class, at least 1 each, (C,).
        p: of the mitigation, at least 0.
        q: of the compensation, at least 0.
        eps: lower bound of the label's score in the compensation, in [0, 1]; 0 is the paper's formula.
        weighting: ``effective_number_beta``, ``drw_start`` and ``divide_by``, see ``Loss``.
    """

    paper: ClassVar[str] = "Seesaw loss (Wang et al., CVPR 2021)"
    exact_gradient: ClassVar[bool] = False

    log_counts: Tensor

    @checked
    def __init__(
        self,
        class_counts: Sequence[int] | Tensor,
        p: NonNegative = 0.8,
        q: NonNegative = 2.0,
        eps: Share = 0.01,
        **weighting: Any,
    ):
        super().__init__(class_counts, **weighting)
        self.p, self.q, self.log_eps = p, q, math.log(eps) if eps else -math.inf
        self.register_constant("log_counts", check_class_counts(class_counts).double().log())

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of logits adjusted for each label."""
        return sum_over_labels(logits, targets, self._at_label)

    def _at_label(self, z: Tensor, label: Tensor) -> Tensor:
        own = label[:, None]
        log_p = z.detach().log_softmax(1)
        mitigation = (self.log_counts - self.log_counts[own]).clamp(max=0)
        compensation = (log_p - log_p.gather(1, own).clamp(min=self.log_eps)).clamp(min=0)
        return F.cross_entropy(z + self.p * mitigation + self.q * compensation, label, reduction="none")
