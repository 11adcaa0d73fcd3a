"""The sum of several regularizers."""

from torch import Tensor, nn

from carlt.errors import CarltError
from carlt.protocols import AdjustsLogits, FollowsProgress


class SumOfRegularizers(nn.ModuleDict):
    """The sum of regularizers by name: ``SumOfRegularizers(car=CAR(...), confidence_penalty=ConfidencePenalty())``.

    Each has its own weight and state, and gets the same logits (N, C) and targets.

    Raises:
        CarltError: no regularizer is given.
    """

    def __init__(self, **parts: nn.Module):
        if not parts:
            raise CarltError("no regularizer is named: combine them as reg=[car,confidence_penalty]")
        super().__init__(parts)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return sum((part(logits, targets) for part in self.values()), start=logits.new_zeros(()))

    def adjust(self, logits: Tensor) -> Tensor:
        """The logits (..., C) for the loss, after the changes of all."""
        for part in self.values():
            if isinstance(part, AdjustsLogits):
                logits = part.adjust(logits)
        return logits

    def set_progress(self, progress: float) -> None:
        """Set the share of the training that is done, in [0, 1)."""
        for part in self.values():
            if isinstance(part, FollowsProgress):
                part.set_progress(progress)
