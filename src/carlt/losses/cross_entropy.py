"""Plain cross-entropy."""

from typing import ClassVar

from torch import Tensor

from carlt.losses.base import Loss, gather_labels


class CrossEntropy(Loss):
    """l(z, y) = -log softmax(z)[y]."""

    paper: ClassVar[str] = "Cross-entropy"

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        """-log p at the label."""
        return gather_labels(-logits.log_softmax(1), targets)
