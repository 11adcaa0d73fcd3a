"""Focal loss: a smaller weight for confident samples."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from carlt.losses.base import Loss, gather_labels
from carlt.ranges import NonNegative, checked


class Focal(Loss):
    """l(z, y) = (1 - p_y)^gamma * -log p_y, p = softmax(z) (Lin et al., ICCV 2017, eq. 4, over a softmax).

    Args:
        class_counts: training images of each class (C,).
        gamma: at least 0; 0 is cross-entropy, 2 the paper's, 1 that of LDAM-DRW's runs.
        weighting: ``effective_number_beta``, ``drw_start`` and ``divide_by``, see ``Loss``.
    """

    paper: ClassVar[str] = "Focal loss (Lin et al., ICCV 2017)"

    @checked
    def __init__(self, class_counts: Sequence[int] | Tensor, gamma: NonNegative = 2.0, **weighting: Any):
        super().__init__(class_counts, **weighting)
        self.gamma = gamma

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        """-(1 - p)^gamma log p at the label."""
        return gather_labels(focus(logits.log_softmax(1), self.gamma), targets)


def focus(log_p: Tensor, gamma: float) -> Tensor:
    """-(1 - p)^gamma log p of log p <= 0, element by element."""
    # At p = 1 the derivative of a power below 1 is infinite.
    wrong = -log_p.expm1().clamp(max=-torch.finfo(log_p.dtype).tiny)
    return -(wrong**gamma) * log_p
