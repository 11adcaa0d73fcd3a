"""LWS: one learned scale per class."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from carlt.stages.base import LinearHead, Stage


class LWS(Stage):
    """z'_c = s_c z_c, s alone trained, class-balanced sampling (Kang et al., ICLR 2020, section 4)."""

    paper: ClassVar[str] = "LWS (Kang et al., ICLR 2020)"

    def replace_classifier(self, trained: LinearHead) -> nn.Module:
        """The trained one, frozen, times the scales."""
        return ScaledClassifier(trained.requires_grad_(False))


class ScaledClassifier(nn.Module):
    """scale_c times the logits of ``linear``, scale 1 at first: features (N, D) to logits (N, C).

    ``lr_factor`` multiplies the learning rate of ``linear``, where it is trained.
    """

    def __init__(self, linear: LinearHead, lr_factor: float = 1.0):
        super().__init__()
        self.lr_factor = lr_factor
        self.linear, self.in_features = linear, linear.in_features
        self.scale = nn.Parameter(torch.ones(len(linear.weight)))

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * self.linear(features)

    def lr_factors(self) -> dict[nn.Parameter, float]:
        """See ``carlt.protocols.ScalesLearningRate``."""
        return dict.fromkeys(self.linear.parameters(), self.lr_factor)
