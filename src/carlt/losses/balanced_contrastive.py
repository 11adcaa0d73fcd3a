"""Balanced contrastive learning: logit-adjusted cross-entropy, and contrast of two further views."""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from carlt.errors import CarltError
from carlt.functional.contrastive import balanced_contrastive
from carlt.losses.base import NetworkLoss
from carlt.losses.logit_adjusted import LogitAdjusted
from carlt.losses.step import StepInput, StepOutput
from carlt.models.classifier import extract_features, get_classifier
from carlt.ranges import Count, Finite, NonNegative, Positive, checked


class Embedding(NamedTuple):
    """A batch in the space of a contrastive loss, not normalised."""

    views: Tensor
    """(1 + V, N, D): the classified view, then the contrastive ones."""
    centres: Tensor
    """(C, D): of the classes."""


class BalancedContrastive(NetworkLoss):
    """ce_weight * LA-CE(z) + contrast_weight * BalSCL(views, centres) (Zhu et al., CVPR 2022, eq. 10).

    Two small networks belong to this loss and are trained with it: features (D',) to projections, and the classifier's
    weights (C, D') to class centres; each is linear, batch norm, ReLU, linear. So every backbone works, and the
    network of a finished run has no further parts. On several devices a sample is contrasted with those of its device.

    Args:
        class_counts: training images of each class, at least 1 each, (C,).
        feature_dim: D', the width of the classifier's input.
        tau: of the logit adjustment; ConCutMix takes 0.9 for CIFAR100-LT at imbalance factor 100.
        ce_weight, contrast_weight: of the two parts.
        temperature: of the contrast, positive.
        hidden: width of the two small networks; None: ``feature_dim``, as on ImageNet-LT and iNaturalist.
        dim: of the contrastive space; 128 for CIFAR-LT, 1024 for ImageNet-LT and iNaturalist.
    """

    paper: ClassVar[str] = "Balanced contrastive learning (Zhu et al., CVPR 2022)"
    contrast_views: ClassVar[int] = 2
    has_centres: ClassVar[bool] = True
    adjusts: ClassVar[bool] = True

    @checked
    def __init__(
        self,
        class_counts: Sequence[int] | Tensor,
        feature_dim: int,
        *,
        tau: Finite = 1.0,
        ce_weight: NonNegative = 2.0,
        contrast_weight: NonNegative = 0.6,
        temperature: Positive = 0.1,
        hidden: Count | None = 512,
        dim: Count = 128,
    ):
        super().__init__()
        hidden = feature_dim if hidden is None else hidden
        self.cross_entropy = LogitAdjusted(class_counts, tau)
        self.ce_weight, self.contrast_weight, self.temperature = ce_weight, contrast_weight, temperature
        self.projector = projector(feature_dim, hidden, dim)
        self.centre_projector = projector(feature_dim, hidden, dim)

    def compute_loss(self, network: nn.Module, step: StepInput) -> StepOutput:
        """All views in one pass through the network."""
        if step.contrast is None:
            raise CarltError("BalancedContrastive needs two further views of each image: give StepInput.contrast")
        head = get_classifier(network)
        seen = extract_features(network, torch.cat([step.images, step.contrast.flatten(0, 1)]))
        seen = seen.unflatten(0, (-1, len(step.images)))
        embedding = self.embed(seen, head.weight)
        logits, targets = head(seen[0]), step.relabelled(embedding.views[0], embedding.centres)
        return StepOutput(logits, targets, self(step.adjust(logits), targets, embedding, step.labels))

    def embed(self, features: Tensor, weight: Tensor) -> Embedding:
        """Features (1 + V, N, D') and the classifier's weights (C, D') in the contrastive space."""
        projections = self.projector(features.flatten(0, 1))
        return Embedding(projections.unflatten(0, features.shape[:2]), self.centre_projector(weight))

    def forward(self, logits: Tensor, targets: Tensor, embedding: Embedding, labels: Tensor) -> Tensor:
        """Scalar, for the classified view's ``logits`` and ``targets`` ((N,) or, mixed, (N, C)) and ``labels`` (N,)."""
        contrast = balanced_contrastive(embedding.views[1:], labels, embedding.centres, self.temperature)
        return self.ce_weight * self.cross_entropy(logits, targets) + self.contrast_weight * contrast


def projector(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """A small network from features (N, inputs) to projections (N, outputs): linear, batch norm, ReLU, linear."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outputs)
    )
