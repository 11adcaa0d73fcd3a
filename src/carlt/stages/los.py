"""LOS: the classifier is trained further with strongly smoothed labels."""

from typing import ClassVar

from torch import nn

from carlt.stages.base import LinearHead, Stage


class LOS(Stage):
    """Label over-smoothing: the classifier alone, with ``carlt.losses.LabelSmoothing`` at 0.98 (Sun et al., ICLR 2025).

    It begins with the trained weights: the paper's learning rate is too small for a new classifier.
    """

    paper: ClassVar[str] = "LOS (Sun et al., ICLR 2025)"

    def replace_classifier(self, trained: LinearHead) -> nn.Module:
        """The trained one."""
        return trained
