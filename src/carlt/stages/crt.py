"""cRT: a new classifier on frozen features."""

from typing import ClassVar

from torch import nn

from carlt.models.experts import ExpertHeads
from carlt.stages.base import LinearHead, Stage, new_classifier


class CRT(Stage):
    """A new classifier on frozen features, class-balanced sampling (Kang et al., ICLR 2020, section 4)."""

    paper: ClassVar[str] = "cRT (Kang et al., ICLR 2020)"

    classifiers = (*Stage.classifiers, ExpertHeads)

    def replace_classifier(self, trained: LinearHead | ExpertHeads) -> nn.Module:
        """A new one of the same kind."""
        return new_classifier(trained)
