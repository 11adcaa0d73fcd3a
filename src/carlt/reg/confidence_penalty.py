"""Confidence penalty."""

from typing import ClassVar

from torch import Tensor, nn

from carlt.functional.precision import at_least_float32
from carlt.ranges import NonNegative, checked


class ConfidencePenalty(nn.Module):
    """-weight * mean H(p), p = softmax(logits): a cost for confident answers (Pereyra et al., 2017, eq. 3-4).

    In nats, in [-weight * log C, 0]. Logits (N, C); the targets are not used.

    Args:
        weight: beta of the paper, at least 0; it finds 0.1 good on images.
    """

    paper: ClassVar[str] = "Confidence penalty (Pereyra et al., ICLR workshop 2017)"

    @checked
    def __init__(self, *, weight: NonNegative = 0.1):
        super().__init__()
        self.weight = weight

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        log_p = at_least_float32(logits).log_softmax(1)  # in float16 it may be -inf, and 0 * -inf is NaN
        return self.weight * (log_p.exp() * log_p).sum(1).mean()
