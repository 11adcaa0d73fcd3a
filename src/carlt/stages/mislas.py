"""MiSLAS: the classifier and its scales, under shifted batch normalisation."""

from typing import ClassVar

from torch import nn

from carlt.stages.base import LinearHead, Stage
from carlt.stages.lws import ScaledClassifier


class MiSLAS(Stage):
    """z'_c = s_c (w_c f + b_c), s, w and b trained with label-aware smoothing and class-balanced sampling.

    The statistics of batch normalisation follow the new sampling; its scale and shift stay (Zhong et al., CVPR
    2021, section 3).
    """

    paper: ClassVar[str] = "MiSLAS (Zhong et al., CVPR 2021)"
    updates_statistics: ClassVar[bool] = True

    def replace_classifier(self, trained: LinearHead) -> nn.Module:
        """The trained one times scales, all of it trained."""
        return ScaledClassifier(trained)
