"""Logit-adjusted cross-entropy, and its special case Balanced Softmax."""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from carlt.functional.prior import logit_adjustment
from carlt.losses.base import DivideBy, Loss, gather_labels
from carlt.ranges import Finite, Share, checked


class LogitAdjusted(Loss):
    """CE(z + tau * log pi), pi_c = n_c / N (Menon et al., ICLR 2021, eq. 10).

    >>> import torch
    >>> loss = LogitAdjusted(class_counts=[90, 10])
    >>> round(loss(torch.tensor([[2.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1])).item(), 4)
    1.6261

    Args:
        class_counts: training images of each class, at least 1 each, (C,).
        tau: strength; 1 is consistent for the balanced error, 0 is plain cross-entropy.
        weighting: ``effective_number_beta``, ``drw_start`` and ``divide_by``, see ``Loss``.
    """

    paper: ClassVar[str] = "Logit adjustment (Menon et al., ICLR 2021)"

    adjustment: Tensor

    @checked
    def __init__(self, class_counts: Sequence[int] | Tensor, tau: Finite = 1.0, **weighting: Any):
        super().__init__(class_counts, **weighting)
        self.register_constant("adjustment", logit_adjustment(class_counts, tau))

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        """-log p of the adjusted logits at the label."""
        return gather_labels(-(logits + self.adjustment).log_softmax(1), targets)


class BalancedSoftmax(LogitAdjusted):
    """CE(z + log n) (Ren et al., NeurIPS 2020, eq. 3): logit adjustment at tau = 1, as softmax ignores log N."""

    paper: ClassVar[str] = "Balanced Softmax (Ren et al., NeurIPS 2020)"

    @checked
    def __init__(
        self,
        class_counts: Sequence[int] | Tensor,
        effective_number_beta: Share = 0.0,
        drw_start: Share = 0.0,
        divide_by: DivideBy = "weights",
    ):
        weighting: dict[str, Any] = {"drw_start": drw_start, "divide_by": divide_by}
        super().__init__(class_counts, tau=1.0, effective_number_beta=effective_number_beta, **weighting)
