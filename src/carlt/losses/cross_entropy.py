"""Plain cross-entropy."""

from torch import Tensor, nn
from torch.nn import functional as F


class CrossEntropy(nn.Module):
    """mean_q -log softmax(z_q)[y_q], for labels (N,) or soft labels (N, C)."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits, targets)
