"""GML-NOLB: the geometric mean of the classes' soft recalls."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from carlt.functional.confusion import check_batch, soft_labels_of
from carlt.functional.precision import at_least_float32
from carlt.functional.prior import check_class_counts
from carlt.losses.base import LogitsLoss
from carlt.ranges import checked


class GMLNOLB(LogitsLoss):
    """-mean over the batch's classes c of log r_c, r_c = mean over its samples q of class c of p_q[c].

    p = softmax(z + log n) (Du & Wu, "No One Left Behind", CVPR 2023). All classes count equally, without weights.
    Soft labels weigh the mean: r_c = sum_q t_qc p_q[c] / sum_q t_qc. Under DDP the classes are those of a rank's share
    of the batch.

    Args:
        class_counts: n, training images of each class, at least 1 each, (C,).
    """

    paper: ClassVar[str] = "GML-NOLB (Du & Wu, CVPR 2023)"

    log_counts: Tensor

    @checked
    def __init__(self, class_counts: Sequence[int] | Tensor):
        super().__init__()
        self.register_constant("log_counts", check_class_counts(class_counts).double().log())

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """A scalar: logits floating (N, C), targets whole (N,) or soft labels floating (N, C); else CarltError."""
        check_batch(logits, targets, len(self.log_counts))
        log_p = (at_least_float32(logits) + self.log_counts).log_softmax(1)
        share = soft_labels_of(targets, logits.shape[1], log_p.dtype)
        present = share.sum(0) > 0
        # Absent classes are multiplied by 0 and not left out: the number of columns would have to come from the device.
        share = share.where(present, 1)
        # In logarithms: a mean of probabilities that are all tiny would be 0.
        log_recall = (log_p + share.log()).logsumexp(0) - share.sum(0).log()
        return -(log_recall * present).sum() / present.sum()
