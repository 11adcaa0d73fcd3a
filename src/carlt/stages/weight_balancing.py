"""Weight balancing: weight decay, and a bound on the length of each class's weights."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from carlt.errors import CarltError
from carlt.ranges import Share, checked
from carlt.stages.base import LinearHead, Stage

Project = Literal["epoch", "step"]


class WeightBalancing(Stage):
    """Further training with class-balanced weights, weight decay and MaxNorm (Alshammari et al., CVPR 2022).

    After each epoch ||w_c|| <= r_c = min_k ||w_k|| + threshold (max_k ||w_k|| - min_k ||w_k||), of the weights it began
    with: the paper has a radius for each class, its released code this one for all. The bias is free.

    Args:
        threshold: in [0, 1]; 0 holds all classes to the shortest, 1 holds none below the longest. The code has 0.1.
        project: after each ``"epoch"``, as the released code does, or after each ``"step"``.
        updates_statistics: see ``Stage``.
    """

    paper: ClassVar[str] = "Weight balancing (Alshammari et al., CVPR 2022)"

    @checked
    def __init__(self, threshold: Share = 0.1, project: Project = "epoch", updates_statistics: bool = True):
        super().__init__(updates_statistics)
        self.threshold, self.project = threshold, project

    def replace_classifier(self, trained: LinearHead) -> nn.Module:
        """The trained one with radii; CarltError for a cosine classifier."""
        if not isinstance(trained, nn.Linear):
            raise CarltError("stage=wb balances lengths of weights, and a cosine classifier has none: choose stage=crt")
        return MaxNormLinear(trained, self.threshold, self.project)


class MaxNormLinear(nn.Linear):
    """``linear`` with ||w_c|| <= radius_c after each epoch or step: features (N, D) to logits (N, C)."""

    radius: Tensor

    def __init__(self, linear: nn.Linear, threshold: float, project: Project = "epoch"):
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None)
        self.load_state_dict(linear.state_dict())
        norm = torch.linalg.vector_norm(linear.weight.detach(), dim=1)
        radius = norm.min() + threshold * (norm.max() - norm.min())
        self.project = project
        self.register_buffer("radius", radius.repeat(len(norm)))

    @torch.no_grad()
    def after_step(self, last_of_epoch: bool) -> None:
        """The nearest weights within the radii."""
        if self.project == "epoch" and not last_of_epoch:
            return
        norm = torch.linalg.vector_norm(self.weight, dim=1)
        self.weight.mul_((self.radius / norm.clamp_min(torch.finfo(norm.dtype).tiny)).clamp(max=1)[:, None])
