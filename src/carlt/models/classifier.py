"""Access to a network's features and its classifier."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carlt.errors import CarltError
from carlt.models.experts import ExpertHeads
from carlt.protocols import FeatureNetwork, TimmNetwork, is_feature_network
from carlt.ranges import Positive, checked


class CosineClassifier(nn.Module):
    """scale * cos(features, weight_c): features (N, D) to logits (N, C) (Wang et al., CVPR 2018; LDAM; RIDE).

    Args:
        scale: of the logits, positive; 30 is usual, and 1 where the loss scales by itself.
    """

    @checked
    def __init__(self, in_features: int, num_classes: int, scale: Positive = 30.0):
        super().__init__()
        self.in_features, self.scale = in_features, scale
        self.weight = nn.Parameter(F.normalize(torch.randn(num_classes, in_features)))

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * F.linear(F.normalize(features), F.normalize(self.weight))


def make_classifier(in_features: int, num_classes: int, cosine_scale: float | None, experts: int = 1) -> nn.Module:
    """A linear classifier, or with ``cosine_scale`` a cosine one; with ``experts`` above 1 one for each of them.

    ``in_features`` is the width of one expert's features; those of all experts come side by side.
    """
    if experts > 1:
        return ExpertHeads([make_classifier(in_features, num_classes, cosine_scale) for _ in range(experts)])
    if cosine_scale is None:
        return nn.Linear(in_features, num_classes)
    return CosineClassifier(in_features, num_classes, cosine_scale)


def extract_features(network: Any, images: Tensor) -> Tensor:
    """The input of the network's classifier, (N, D), for images (N, channels, H, W); CarltError if it has none."""
    if isinstance(network, TimmNetwork):
        return network.forward_head(network.forward_features(images), pre_logits=True)
    return _as_feature_network(network).features(images)


def get_classifier(network: Any) -> Any:
    """The last layer, with ``weight`` (C, D): features (N, D) to logits (N, C); CarltError if there are several."""
    if not isinstance(network, TimmNetwork):
        return _as_feature_network(network).classifier
    found = network.get_classifier()
    if not isinstance(found, nn.Module):
        raise CarltError(
            f"{type(network).__name__} has several classifiers: a loss on features, aug=concutmix, adapters and a "
            "second stage need a network with one; choose the model without distillation"
        )
    return found


def set_classifier(network: nn.Module, new: nn.Module) -> Any:
    """Put ``new`` in the place of the network's classifier, and return the old one."""
    old = get_classifier(network)
    path = next(name for name, module in network.named_modules() if module is old)
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, new)
    return old


def feature_dim(network: Any) -> int:
    """D, the width of the features that the network's classifier takes."""
    return int(get_classifier(network).in_features)


def _as_feature_network(network: Any) -> FeatureNetwork:
    if not is_feature_network(network):
        raise CarltError(
            f"{type(network).__name__} does not tell features and classifier apart: a loss on features, "
            "aug=concutmix and a second stage need a network with a method features(images) and a module classifier"
        )
    return network
