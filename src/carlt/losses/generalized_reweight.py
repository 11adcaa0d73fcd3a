"""Cross-entropy weighted by a power of the class frequency."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from carlt.functional.prior import power_weights
from carlt.losses.cross_entropy import CrossEntropy
from carlt.ranges import NonNegative, Share, checked


class GeneralizedReweight(CrossEntropy):
    """Cross-entropy with w_c ~ n_c^-power, of mean 1 (DisAlign, Zhang et al., CVPR 2021, section 3); see ``Loss``.

    Args:
        class_counts: training images of each class, at least 1 each, (C,).
        power: at least 0: 0 weighs classes alike, 1 is inverse frequency, 1.2 is usual.
        drw_start: see ``Loss``.
    """

    paper: ClassVar[str] = "Generalized re-weighting, of DisAlign (Zhang et al., CVPR 2021)"

    @checked
    def __init__(self, class_counts: Sequence[int] | Tensor, power: NonNegative = 1.2, drw_start: Share = 0.0):
        super().__init__(class_counts, drw_start=drw_start)
        self.register_constant("class_weight", power_weights(class_counts, power))
