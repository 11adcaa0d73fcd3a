"""The base of second stages: frozen features, and a classifier that is trained again."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from carlt.errors import CarltError
from carlt.models.classifier import CosineClassifier, extract_features, set_classifier
from carlt.models.experts import ExpertHeads
from carlt.protocols import ActsAfterStep

LinearHead = nn.Linear | CosineClassifier


class Stage(ABC):
    """Takes a trained network and returns the one to train: frozen features, another classifier.

    Args:
        updates_statistics: whether batch normalisation is in training mode: it normalises by the batch, and its running
            means and variances follow the new sampling, as in the released code of cRT, LWS, DisAlign, weight
            balancing, LOS and MiSLAS (not on CIFAR10, and on Places-LT in its last block alone). Its scale and shift
            never change.
    """

    paper: ClassVar[str]
    """The method and where it is from, for tables."""
    classifiers: ClassVar[tuple[type[nn.Module], ...]] = (nn.Linear, CosineClassifier)
    """The kinds of classifier that it can start from."""

    def __init__(self, updates_statistics: bool = True):
        self.updates_statistics = updates_statistics

    @abstractmethod
    def replace_classifier(self, trained: Any) -> nn.Module:
        """The classifier to train, features (N, D) to logits (N, C), from the trained one; sets what of it trains."""

    def build_network(self, network: nn.Module) -> "FrozenBackbone":
        """``network`` with its classifier replaced.

        Raises:
            CarltError: the network's classifier is not among ``classifiers``.
        """
        trained = set_classifier(network, nn.Identity())
        if not isinstance(trained, self.classifiers):
            kinds = " or ".join(kind.__name__ for kind in self.classifiers)
            raise CarltError(
                f"{type(self).__name__} begins with a classifier of kind {kinds}, not {type(trained).__name__}"
            )
        return FrozenBackbone(network.requires_grad_(False), self.replace_classifier(trained), self.updates_statistics)


class FrozenBackbone(nn.Module):
    """``classifier`` on the features of ``backbone``, which is never trained: images (N, channels, H, W) to (N, C).

    The backbone stays in eval mode, without dropout; with ``updates_statistics`` its batch normalisation alone is in
    training mode. The classifier may have an ``after_step`` and ``lr_factors`` (``carlt.protocols``).
    """

    def __init__(self, backbone: nn.Module, classifier: nn.Module, updates_statistics: bool):
        super().__init__()
        self.backbone, self.classifier, self.updates_statistics = backbone, classifier, updates_statistics
        self.train()

    def train(self, mode: bool = True) -> "FrozenBackbone":
        super().train(mode)
        self.backbone.eval()
        if self.updates_statistics:
            for module in self.backbone.modules():
                if isinstance(module, _BatchNorm):
                    module.train(mode)
        return self

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """The classifier's input, (N, D)."""
        return extract_features(self.backbone, images)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))

    def after_step(self, last_of_epoch: bool) -> None:
        """Pass the call on to the classifier."""
        if isinstance(self.classifier, ActsAfterStep):
            self.classifier.after_step(last_of_epoch)


def new_classifier(trained: LinearHead | ExpertHeads) -> nn.Module:
    """A classifier as ``trained``, linear, cosine or one of each expert, with initial weights."""
    if isinstance(trained, ExpertHeads):
        return ExpertHeads(new_classifier(head) for head in trained)  # type: ignore[arg-type]
    width = trained.in_features
    if isinstance(trained, CosineClassifier):
        return CosineClassifier(width, len(trained.weight), trained.scale)
    return nn.Linear(width, len(trained.weight), trained.bias is not None)
