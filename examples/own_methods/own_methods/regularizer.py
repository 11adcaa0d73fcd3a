"""A regularizer of one's own."""

from typing import ClassVar

from torch import Tensor, nn

from carlt.ranges import NonNegative, checked


class LogitPenalty(nn.Module):
    """weight * mean z^2 over samples and classes.

    Args:
        weight: at least 0.
    """

    paper: ClassVar[str] = "Logit penalty (ours)"

    @checked
    def __init__(self, *, weight: NonNegative = 0.01):
        super().__init__()
        self.weight = weight

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.weight * logits.float().square().mean()
