"""GLMC: consistency of two mixtures, and a classifier that gains weight during training."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carlt.errors import CarltError
from carlt.functional.mixing import random_box, soft_labels
from carlt.functional.precision import at_least_float32
from carlt.functional.prior import power_weights
from carlt.losses.base import Augmentation, NetworkLoss
from carlt.losses.step import StepInput, StepOutput
from carlt.models.classifier import extract_features, get_classifier
from carlt.ranges import Count, NonNegative, checked


class GLMC(NetworkLoss):
    """a sum_v CE(h(f_v), t) + (1 - a) sum_v wCE(z_v, t) + consistency * S (Du et al., CVPR 2023, section 3).

    f_1, f_2 = features of MixUp(x, y) and CutMix(x', y): x, x' two views of the batch, y a second batch, one lam
    t        = lam onehot(x) + (1 - lam) onehot(y), of both; CutMix's is not corrected to its box, as in the code
    wCE      = -sum_c t_c w_c log softmax(z)_c, w_c ~ n_c^-power with mean 1
    S        = -cos(p(g(f_1)), g(f_2)) - cos(p(g(f_2)), g(f_1)), g(.) in second place a constant (SimSiam)
    a        = 1 - progress^2

    z are the network's logits, which are tested; the head h, projector g and predictor p, all linear, belong to this
    loss. The regularizer sees z of the MixUp view. ``loss=glmc`` sets ``aug.second``, which reads the second batch, in
    one view where the code has two.

    Args:
        class_counts: training images of each class, at least 1 each, (C,).
        feature_dim: D', the width of the classifier's input.
        power: of the class weights, at least 0.
        consistency: weight of S, at least 0.
        dim: of projections, at least 1.
        joint: False passes the mixed batches through the network one after the other, as the code does: each has
            statistics of batch normalisation of its own. True passes both at once.
    """

    paper: ClassVar[str] = "GLMC (Du et al., CVPR 2023)"
    contrast_views: ClassVar[int] = 1
    contrast_is_view: ClassVar[bool] = True

    class_weight: Tensor

    @checked
    def __init__(
        self,
        class_counts: Sequence[int] | Tensor,
        feature_dim: int,
        *,
        power: NonNegative = 1.2,
        consistency: NonNegative = 4.0,
        dim: Count = 128,
        joint: bool = False,
    ):
        super().__init__()
        self.consistency, self.joint, self.progress = consistency, joint, 0.0
        self.register_constant("class_weight", power_weights(class_counts, power))
        self.head = nn.Linear(feature_dim, len(class_counts))
        self.projector = nn.Linear(feature_dim, dim)
        self.predictor = nn.Linear(dim, dim)

    def set_progress(self, progress: float) -> None:
        """Set the share of the training that is done, in [0, 1)."""
        self.progress = progress

    @classmethod
    def check_augmentation(cls, augmentation: Augmentation) -> None:
        """CarltError where images are mixed already."""
        super().check_augmentation(augmentation)
        if augmentation.mixes or augmentation.pastes:
            raise CarltError("loss=glmc mixes each batch with a second one by itself: choose an aug that does not mix")

    def compute_loss(self, network: nn.Module, step: StepInput) -> StepOutput:
        """Mix the batch with the second one in both ways."""
        if step.contrast is None or step.second is None:
            raise CarltError("GLMC mixes two batches: leave aug.second as loss=glmc sets it")
        others, labels = step.second
        lam = torch.rand(())  # Beta(1, 1)
        rows, columns = random_box(others.shape[-2], others.shape[-1], lam)
        cut = step.contrast[0].clone()
        cut[..., rows, columns] = others[..., rows, columns]
        views = [torch.lerp(others, step.images, float(lam)), cut]
        passes = [torch.cat(views)] if self.joint else views
        seen = torch.cat([extract_features(network, images) for images in passes])
        targets = soft_labels(step.labels, labels, lam, len(self.class_weight))
        logits, projections = get_classifier(network)(seen), self.projector(seen)
        pairs = (part.unflatten(0, (2, -1)) for part in (self.head(seen), logits, projections))
        return StepOutput(logits[: len(targets)], targets, self(*pairs, targets))

    def forward(self, instance: Tensor, balanced: Tensor, projections: Tensor, targets: Tensor) -> Tensor:
        """Scalar: h's and the network's logits (2, N, C), projections (2, N, dim) of the views, soft labels (N, C)."""
        instance, balanced = at_least_float32(instance), at_least_float32(balanced)
        plain = -(targets * instance.log_softmax(2)).sum(2).mean(1).sum()
        weighted = -(targets * self.class_weight * balanced.log_softmax(2)).sum(2).mean(1).sum()
        predicted, other = at_least_float32(self.predictor(projections)), at_least_float32(projections.detach().flip(0))
        similarity = F.cosine_similarity(predicted, other, dim=2).mean(1).sum()
        early = 1 - self.progress**2
        return early * plain + (1 - early) * weighted - self.consistency * similarity
