"""LDAM: a margin for each class, wider for rarer ones."""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional as F

from carlt.functional.prior import check_class_counts
from carlt.losses.base import Loss, sum_over_labels
from carlt.ranges import NonNegative, Positive, checked


class LDAM(Loss):
    """l(z, y) = CE(z - scale * m_y 1_y), m_c = max_margin * (min n / n_c)^(1/4) (Cao et al., NeurIPS 2019, eq. 13).

    z is ``scale`` times cosines, as a ``CosineClassifier`` with that scale gives them (``model.cosine_scale``).

    Args:
        class_counts: training images of each class, at least 1 each, (C,).
        scale: of the classifier's cosines, more than 0.
        max_margin: of the rarest class, at least 0, in cosines.
        weighting: ``effective_number_beta``, ``drw_start`` and ``divide_by``, see ``Loss``; LDAM-DRW is
            0.9999 from 0.8.
    """

    paper: ClassVar[str] = "LDAM (Cao et al., NeurIPS 2019)"

    margin: Tensor

    @checked
    def __init__(
        self,
        class_counts: Sequence[int] | Tensor,
        scale: Positive = 30.0,
        max_margin: NonNegative = 0.5,
        **weighting: Any,
    ):
        super().__init__(class_counts, **weighting)
        self.scale = scale
        counts = check_class_counts(class_counts).double()
        self.register_constant("margin", max_margin * (counts.min() / counts) ** 0.25)

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of logits, the label's less its margin."""
        return sum_over_labels(logits, targets, self._at_label)

    def _at_label(self, z: Tensor, label: Tensor) -> Tensor:
        less = -self.scale * self.margin[label].to(z.dtype)
        return F.cross_entropy(z.scatter_add(1, label[:, None], less[:, None]), label, reduction="none")
