"""Class-balanced losses: weights by effective numbers, from the first step on."""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from carlt.losses.cross_entropy import CrossEntropy
from carlt.losses.focal import Focal
from carlt.ranges import Share, checked


class ClassBalanced(CrossEntropy):
    """Cross-entropy with w_c ~ (1 - b) / (1 - b^n_c) (Cui et al., CVPR 2019, section 4); see ``Loss``."""

    paper: ClassVar[str] = "Class-balanced cross-entropy (Cui et al., CVPR 2019)"

    @checked
    def __init__(
        self, class_counts: Sequence[int] | Tensor, effective_number_beta: Share = 0.9999, drw_start: Share = 0.0
    ):
        super().__init__(class_counts, effective_number_beta, drw_start)


class ClassBalancedFocal(Focal):
    """Focal loss with the same weights (Cui et al., CVPR 2019, section 4); see ``Focal``."""

    paper: ClassVar[str] = "Class-balanced focal loss (Cui et al., CVPR 2019)"

    @checked
    def __init__(self, class_counts: Sequence[int] | Tensor, effective_number_beta: Share = 0.9999, **others: Any):
        super().__init__(class_counts, effective_number_beta=effective_number_beta, **others)
