"""LADE: logits without the class frequencies of the training set."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from carlt.functional.confusion import soft_labels_of
from carlt.functional.precision import at_least_float32
from carlt.functional.prior import relative_frequency
from carlt.losses.logit_adjusted import BalancedSoftmax
from carlt.ranges import NonNegative, checked

Ratio = Literal["class", "sample"]


class LADE(BalancedSoftmax):
    """CE(z + log pi) + alpha * sum_c pi_c (e_c - a_c + penalty * e_c^2) (Hong et al., CVPR 2021, section 3).

    a_c = mean of z_q[c] over the samples of class c; 0 where the batch has none
    e_c = log mean over q of e^(z_q[c]) / (C pi_c)               ``ratio="class"``, the released code
    e_c = log mean over q of e^(z_q[c]) / (C pi_{y_q})           ``ratio="sample"``, the paper

    In the paper's form a_c - e_c is the Donsker-Varadhan bound under equally frequent classes, whose best z is the
    log-likelihood ratio of class c; the code's form shifts e_c by a constant. The class weights of ``Loss`` act on the
    first term alone.

    Args:
        class_counts: training images of each class, at least 1 each, (C,).
        alpha: of the second term, at least 0; at 0 this is Balanced Softmax. 0.1 for CIFAR100-LT, 0.05 for ImageNet-LT.
        penalty: lambda, of the squared normaliser, at least 0; 0.01 for CIFAR100-LT at imbalance factor 100, 0.5 for
            ImageNet-LT.
        ratio: which frequency the normaliser divides by.
        weighting: ``effective_number_beta``, ``drw_start`` and ``divide_by``, see ``Loss``.
    """

    paper: ClassVar[str] = "LADE (Hong et al., CVPR 2021)"

    prior: Tensor

    @checked
    def __init__(
        self,
        class_counts: Sequence[int] | Tensor,
        alpha: NonNegative = 0.1,
        penalty: NonNegative = 0.01,
        ratio: Ratio = "class",
        **weighting: Any,
    ):
        super().__init__(class_counts, **weighting)
        self.alpha, self.penalty, self.ratio = alpha, penalty, ratio
        self.register_constant("prior", relative_frequency(class_counts))

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Both terms, a scalar."""
        return super().forward(logits, targets) + self.alpha * self.normaliser(logits, targets)

    def normaliser(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The second term, without alpha, a scalar."""
        logits = at_least_float32(logits)
        size, num_classes = logits.shape
        share = soft_labels_of(targets, num_classes, logits.dtype)
        mass = share.sum(0)
        own = (share * logits).sum(0) / mass.clamp_min(torch.finfo(mass.dtype).tiny)
        inverse = 1 / (num_classes * self.prior)
        factor = inverse if self.ratio == "class" else (share * inverse).sum(1, keepdim=True)
        every = (logits + factor.log()).logsumexp(0) - math.log(size)
        return (self.prior * (every - own + self.penalty * every**2)).sum()
