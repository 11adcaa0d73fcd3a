"""Several regularizers at once."""

from torch import Tensor, nn

from carlt.errors import CarltError


class Several(nn.ModuleDict):
    """The sum of regularizers by name: ``Several(car=CAR(...), confidence_penalty=ConfidencePenalty())``.

    Each has its own weight and state, and sees the same logits (N, C) and targets.

    Raises:
        CarltError: no regularizer is given.
    """

    def __init__(self, **parts: nn.Module):
        if not parts:
            raise CarltError("no regularizer is named: give several as reg=[car,confidence_penalty]")
        super().__init__(parts)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return sum((part(logits, targets) for part in self.values()), start=logits.new_zeros(()))

    def set_progress(self, progress: float) -> None:
        for part in self.values():
            tell = getattr(part, "set_progress", None)
            if tell is not None:
                tell(progress)
