"""LOS: the classifier once more, on labels smoothed until little is left of them."""

from typing import ClassVar

from torch import nn

from carlt.stages.base import Stage, Trained, fresh


class LOS(Stage):
    """Label over-smoothing: the classifier alone, with ``carlt.losses.LabelSmoothing`` at 0.98 (Sun et al., ICLR 2025).

    Args:
        new_head: begin with initial weights and not with the trained ones.
    """

    paper: ClassVar[str] = "LOS (Sun et al., ICLR 2025)"

    def __init__(self, new_head: bool = False):
        self.new_head = new_head

    def head(self, trained: Trained) -> nn.Module:
        """The trained one, or a new one of the same kind."""
        return fresh(trained) if self.new_head else trained
