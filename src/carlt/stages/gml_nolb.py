"""GML-NOLB: a new classifier for the geometric mean of the classes' recalls."""

from typing import ClassVar

from torch import nn

from carlt.models.experts import ExpertHeads
from carlt.stages.base import Stage, Trained, fresh


class GMLNOLB(Stage):
    """A new classifier on frozen features, with ``carlt.losses.GMLNOLB`` (Du & Wu, "No One Left Behind", CVPR 2023).

    Without the paper's optional ensemble of the old and the new classifier.
    """

    paper: ClassVar[str] = "GML-NOLB (Du & Wu, CVPR 2023)"

    classifiers = (*Stage.classifiers, ExpertHeads)

    def head(self, trained: Trained | ExpertHeads) -> nn.Module:
        """A new one of the same kind."""
        return fresh(trained)
