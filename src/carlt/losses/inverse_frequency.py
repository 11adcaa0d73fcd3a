"""Cross-entropy weighted by inverse class frequency."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from carlt.losses.cross_entropy import CrossEntropy
from carlt.ranges import Share, checked


class InverseFrequency(CrossEntropy):
    """Cross-entropy with w_c ~ 1 / n_c (e.g. Huang et al., CVPR 2016, section 1); see ``Loss``."""

    paper: ClassVar[str] = "Inverse-frequency weights (Huang et al., CVPR 2016)"

    @checked
    def __init__(self, class_counts: Sequence[int] | Tensor, drw_start: Share = 0.0):
        super().__init__(class_counts, effective_number_beta=1.0, drw_start=drw_start)
