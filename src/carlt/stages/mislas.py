"""MiSLAS: the classifier and its scales, under shifted batch normalisation."""

from typing import ClassVar

from torch import nn

from carlt.ranges import Positive, checked
from carlt.stages.base import LinearHead, Stage
from carlt.stages.lws import ScaledClassifier


class MiSLAS(Stage):
    """z'_c = s_c (w_c f + b_c), s, w and b trained with label-aware smoothing and class-balanced sampling.

    The statistics of batch normalisation follow the new sampling; its scale and shift stay (Zhong et al., CVPR
    2021, section 3).

    Args:
        lr_factor: of w's and b's learning rate, positive; s has the full one. Released: 0.2 for CIFAR100-LT at
            imbalance factor 100, 0.1 at 50 and 10, 0.5 for CIFAR10-LT, 0.05 for the large sets.
        updates_statistics: see ``Stage``; False for CIFAR10-LT.
    """

    paper: ClassVar[str] = "MiSLAS (Zhong et al., CVPR 2021)"

    @checked
    def __init__(self, lr_factor: Positive = 0.2, updates_statistics: bool = True):
        super().__init__(updates_statistics)
        self.lr_factor = lr_factor

    def replace_classifier(self, trained: LinearHead) -> nn.Module:
        """The trained one times scales, all of it trained."""
        return ScaledClassifier(trained, self.lr_factor)
