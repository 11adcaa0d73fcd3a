"""VS: logits scaled and shifted by class frequency."""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from carlt.functional.prior import check_class_counts, logit_adjustment
from carlt.losses.base import Loss, gather_labels
from carlt.ranges import Finite, NonNegative, checked


class VectorScaling(Loss):
    """CE(d * z + tau log pi), d_c = (n_c / max n)^gamma, pi_c = n_c / N (Kini et al., NeurIPS 2021, section 2).

    Args:
        class_counts: training images of each class, at least 1 each, (C,).
        gamma: of the scaling, at least 0; at 0 this is logit adjustment. The paper tunes both for each data set.
        tau: of the shift.
        weighting: ``effective_number_beta``, ``drw_start`` and ``divide_by``, see ``Loss``.
    """

    paper: ClassVar[str] = "Vector scaling, VS (Kini et al., NeurIPS 2021)"

    scaling: Tensor
    shift: Tensor

    @checked
    def __init__(
        self,
        class_counts: Sequence[int] | Tensor,
        gamma: NonNegative = 0.3,
        tau: Finite = 1.0,
        **weighting: Any,
    ):
        super().__init__(class_counts, **weighting)
        counts = check_class_counts(class_counts).double()
        self.register_constant("scaling", (counts / counts.max()) ** gamma)
        self.register_constant("shift", logit_adjustment(class_counts, tau))

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        """-log p of the scaled and shifted logits at the label."""
        return gather_labels(-(self.scaling * logits + self.shift).log_softmax(1), targets)
