"""cRT: the classifier once more, from the start."""

from typing import ClassVar

from torch import nn

from carlt.stages.base import Stage, fresh


class CRT(Stage):
    """Classifier re-training: a new classifier on frozen features, classes drawn alike (Kang et al., ICLR 2020, 4.1)."""

    paper: ClassVar[str] = "cRT (Kang et al., ICLR 2020)"

    def head(self, trained: nn.Module) -> nn.Module:
        """A new one of the same kind."""
        return fresh(trained)
