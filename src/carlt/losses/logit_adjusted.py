"""Logit-adjusted cross-entropy, and its special case Balanced Softmax."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from carlt.functional.prior import logit_adjustment


class LogitAdjusted(nn.Module):
    """CE(z + tau * log pi), pi_c = n_c / N (Menon et al., ICLR 2021, eq. 10), for labels (N,) or soft labels (N, C).

    Args:
        class_counts: training images of each class, at least 1 each, (C,).
        tau: strength; 1 is consistent for the balanced error, 0 is plain cross-entropy.
    """

    adjustment: Tensor

    def __init__(self, class_counts: Sequence[int] | Tensor, tau: float = 1.0):
        super().__init__()
        # A constant of the data, so no checkpoint needs it.
        self.register_buffer("adjustment", logit_adjustment(class_counts, tau).float(), persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits + self.adjustment, targets)


class BalancedSoftmax(LogitAdjusted):
    """CE(z + log n) (Ren et al., NeurIPS 2020, eq. 3): logit adjustment at tau = 1, as softmax ignores log N."""

    def __init__(self, class_counts: Sequence[int] | Tensor):
        super().__init__(class_counts, tau=1.0)
