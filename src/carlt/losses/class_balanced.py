"""Class-balanced losses: weights by effective numbers, from the first step on."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from carlt.losses.base import DivideBy, Loss, gather_labels
from carlt.losses.cross_entropy import CrossEntropy
from carlt.losses.focal import focus
from carlt.ranges import NonNegative, Share, checked


class ClassBalanced(CrossEntropy):
    """sum_q w[y_q] CE(z_q, y_q) / N, w_c ~ (1 - b) / (1 - b^n_c) of mean 1 (Cui et al., CVPR 2019, section 4).

    Args:
        class_counts: training images of each class, at least 1 each, (C,).
        effective_number_beta: b, in [0, 1]; 0.9999 in LDAM-DRW's code, 0.999 in CAR's own comparison.
        drw_start, divide_by: see ``Loss``; ``divide_by="weights"`` is LDAM-DRW's "Reweight", about 5 times as large
            on CIFAR100-LT at imbalance factor 100.
    """

    paper: ClassVar[str] = "Class-balanced cross-entropy (Cui et al., CVPR 2019)"

    @checked
    def __init__(
        self,
        class_counts: Sequence[int] | Tensor,
        effective_number_beta: Share = 0.9999,
        drw_start: Share = 0.0,
        divide_by: DivideBy = "samples",
    ):
        super().__init__(class_counts, effective_number_beta, drw_start, divide_by)


class ClassBalancedFocal(Loss):
    """sum_q w[y_q] sum_c (1 - p_qc)^gamma * -log p_qc / N (Cui et al., CVPR 2019, section 4).

    p_qc = sigmoid(z_qc) for the label and sigmoid(-z_qc) for each other class: C tasks of two classes each, as in the
    released code. The focal loss over a softmax with the same weights is ``Focal`` with ``gamma=1``,
    ``effective_number_beta=0.9999`` and ``divide_by="samples"``.

    Args:
        class_counts: training images of each class, at least 1 each, (C,).
        gamma: at least 0; 1 is that of the paper's and LDAM-DRW's runs on CIFAR.
        effective_number_beta: b of w_c ~ (1 - b) / (1 - b^n_c), in [0, 1].
        drw_start, divide_by: see ``Loss``.
    """

    paper: ClassVar[str] = "Class-balanced focal loss (Cui et al., CVPR 2019)"

    @checked
    def __init__(
        self,
        class_counts: Sequence[int] | Tensor,
        gamma: NonNegative = 1.0,
        effective_number_beta: Share = 0.9999,
        drw_start: Share = 0.0,
        divide_by: DivideBy = "samples",
    ):
        super().__init__(class_counts, effective_number_beta, drw_start, divide_by)
        self.gamma = gamma

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The sum over the classes' two-class focal losses."""
        own, other = focus(F.logsigmoid(logits), self.gamma), focus(F.logsigmoid(-logits), self.gamma)
        return label_against_others(own, other, targets)


class SoftmaxBCE(ClassBalanced):
    """sum_q w[y_q] sum_c BCE(p_qc, [c = y_q]) / (C N), p = softmax(z): the loss of weight balancing's second stage.

    Binary cross-entropy of softmax probabilities, -log p at the label and -log(1 - p) at each other class, averaged
    over samples and classes (Alshammari et al., CVPR 2022, released code; from that of Cui et al., CVPR 2019). Its
    gradient is some hundred times smaller than cross-entropy's, so weight decay dominates that stage.

    Args:
        class_counts: training images of each class, at least 1 each, (C,).
        effective_number_beta: b of w_c ~ (1 - b) / (1 - b^n_c), in [0, 1].
        drw_start, divide_by: see ``Loss``.
    """

    paper: ClassVar[str] = "Class-balanced BCE of softmax, of weight balancing (Alshammari et al., CVPR 2022)"

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean over the classes' binary cross-entropies."""
        own, other = -logits.log_softmax(1), -log_one_minus_softmax(logits)
        return label_against_others(own, other, targets) / logits.shape[1]


def label_against_others(own: Tensor, other: Tensor, targets: Tensor) -> Tensor:
    """own_qy + sum_{c != y} other_qc, (N,), of values (N, C); linear in soft labels, which may sum to anything."""
    total = targets.sum(1) if targets.is_floating_point() else 1
    return gather_labels(own - other, targets) + total * other.sum(1)


def log_one_minus_softmax(logits: Tensor) -> Tensor:
    """log(1 - softmax(z)_c), (N, C): exact for the largest probability too, where 1 - p would round to 0."""
    largest = logits.argmax(1, keepdim=True)
    rest = logits.scatter(1, largest, -torch.inf).logsumexp(1, keepdim=True) - logits.logsumexp(1, keepdim=True)
    return torch.log1p(-logits.softmax(1).scatter(1, largest, 0)).scatter(1, largest, rest)
