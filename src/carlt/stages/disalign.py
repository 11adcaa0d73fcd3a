"""DisAlign: a learned correction of the logits, with a strength per image."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from carlt.stages.base import LinearHead, Stage


class DisAlign(Stage):
    """Adaptive calibration of frozen logits, with generalized re-weighting (Zhang et al., CVPR 2021, section 3)."""

    paper: ClassVar[str] = "DisAlign (Zhang et al., CVPR 2021)"

    def replace_classifier(self, trained: LinearHead) -> nn.Module:
        """The trained one, frozen, and its calibration."""
        return CalibratedClassifier(trained.requires_grad_(False))


class CalibratedClassifier(nn.Module):
    """z'_c = (1 - s(f)) z_c + s(f) (a_c z_c + b_c), s(f) = sigmoid(v f + d): features (N, D) to logits (N, C).

    a = 1 and b = 0 at first, which leaves the logits as they are. The released code for classification has
    (1 + s a) z + s b there, which enlarges all of them at first; on a small network s then falls to 0 and stays there,
    so stage 2 learns nothing.
    """

    def __init__(self, linear: LinearHead):
        super().__init__()
        self.linear, self.in_features = linear, linear.in_features
        self.a = nn.Parameter(torch.ones(len(linear.weight)))
        self.b = nn.Parameter(torch.zeros(len(linear.weight)))
        self.confidence = nn.Linear(linear.in_features, 1)

    def forward(self, features: Tensor) -> Tensor:
        share = self.confidence(features).sigmoid()
        return (1 - share + share * self.a) * self.linear(features) + share * self.b
