"""LWS: one learned scale a class."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from carlt.stages.base import Stage, Trained


class LWS(Stage):
    """z'_c = s_c z_c, s alone trained, classes drawn alike (Kang et al., ICLR 2020, section 4)."""

    paper: ClassVar[str] = "LWS (Kang et al., ICLR 2020)"

    def head(self, trained: Trained) -> nn.Module:
        """The trained one, frozen, times the scales."""
        return Scaled(trained.requires_grad_(False))


class Scaled(nn.Module):
    """scale_c times the logits of ``linear``, scale 1 at first: features (N, D) to logits (N, C)."""

    def __init__(self, linear: Trained):
        super().__init__()
        self.linear, self.in_features = linear, linear.in_features
        self.scale = nn.Parameter(torch.ones(len(linear.weight)))

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * self.linear(features)
