"""RIDE: experts that share early stages, trained with margins and a reward for diversity."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carlt.errors import CarltError
from carlt.functional.precision import at_least_float32
from carlt.functional.prior import relative_frequency
from carlt.losses.base import NetworkLoss
from carlt.losses.ldam import LDAM
from carlt.losses.step import StepInput, StepOutput
from carlt.models.classifier import extract_features, get_classifier
from carlt.models.experts import ExpertHeads
from carlt.ranges import Finite, NonNegative, Positive, Share, checked


class RIDE(NetworkLoss):
    """sum_e LDAM(z_e) + diversity * mean(T)^2 KL(softmax(mean z / T) || softmax(z_e / T)) (Wang et al., ICLR 2021).

    Section 3 as the released code reads it: z_e are expert e's logits, and what is predicted is their mean, which is a
    constant in the divergence. ``diversity`` below 0 pushes experts apart. From ``drw_start`` on LDAM has class
    weights, and the divergence a temperature for each class: T_c = (1 - spread + spread C pi_c) over its maximum; T = 1
    before. A step costs one pass through the shared stages and one through each expert's. Every expert gets
    every image: carlt has no expert assignment, but RIDE's published numbers were made with it.

    Args:
        class_counts: training images of each class, at least 1 each, (C,).
        diversity: finite; -0.45 for CIFAR, -0.2 for the large sets.
        spread: of the temperatures over the classes, in [0, 1]: the released code's reweight factor, 0.05 for CIFAR,
            0.02 for ImageNet-LT and 0.015 for iNaturalist.
        scale, max_margin: see ``LDAM``.
        effective_number_beta, drw_start: see ``Loss``.
    """

    paper: ClassVar[str] = "RIDE (Wang et al., ICLR 2021)"
    adjusts: ClassVar[bool] = True

    class_temperature: Tensor

    @checked
    def __init__(
        self,
        class_counts: Sequence[int] | Tensor,
        diversity: Finite = -0.45,
        spread: Share = 0.05,
        scale: Positive = 30.0,
        max_margin: NonNegative = 0.5,
        effective_number_beta: Share = 0.9999,
        drw_start: Share = 0.8,
    ):
        super().__init__()
        self.diversity = diversity
        self.margins = LDAM(
            class_counts, scale, max_margin, effective_number_beta=effective_number_beta, drw_start=drw_start
        )
        pi = relative_frequency(class_counts)
        temperature = 1 - spread + spread * len(pi) * pi
        self.register_constant("class_temperature", temperature / temperature.max())

    def set_progress(self, progress: float) -> None:
        """Set the share of the training that is done, in [0, 1)."""
        self.margins.set_progress(progress)

    def check_run(self, network: nn.Module, batch_size: int) -> None:
        """CarltError for a network without experts."""
        if not isinstance(get_classifier(network), ExpertHeads):
            raise CarltError("RIDE needs a network with experts: give model.experts=3, as loss=ride does")

    def compute_loss(self, network: nn.Module, step: StepInput) -> StepOutput:
        """Every expert's logits for the loss, their mean for everything else."""
        self.check_run(network, len(step.images))
        head = get_classifier(network)
        assert isinstance(head, ExpertHeads)
        features = extract_features(network, step.images)
        logits = head.each(features)
        targets = step.relabelled(features)
        return StepOutput(logits.mean(1), targets, self(step.adjust(logits), targets))

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Scalar: experts' logits floating (N, E, C), targets int64 (N,) or soft labels floating (N, C)."""
        logits = at_least_float32(logits)
        # All experts in one call, because each call with soft labels makes a GPU wait.
        experts = logits.shape[1]
        classification = experts * self.margins(logits.flatten(0, 1), targets.repeat_interleave(experts, 0))
        late = self.margins.progress >= self.margins.drw_start
        temperature = self.class_temperature if late else torch.ones_like(self.class_temperature)
        mean = (logits.detach().mean(1, keepdim=True) / temperature).log_softmax(2).expand_as(logits)
        own = (logits / temperature).log_softmax(2)
        divergence = F.kl_div(own, mean, reduction="sum", log_target=True) / len(logits)
        return classification + self.diversity * temperature.mean() ** 2 * divergence
