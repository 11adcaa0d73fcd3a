"""PaCo: one softmax over class centres and other samples."""

import copy
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from carlt.distributed import gather_ragged
from carlt.errors import CarltError
from carlt.functional.contrastive import parametric_contrastive
from carlt.functional.precision import at_least_float32
from carlt.functional.prior import logit_adjustment
from carlt.losses.balanced_contrastive import projector
from carlt.losses.base import NetworkLoss
from carlt.losses.step import StepInput, StepOutput
from carlt.models.classifier import extract_features, get_classifier
from carlt.ranges import Count, NonNegative, Positive, ShareBelowOne, arguments_of, checked


class PaCo(NetworkLoss):
    """Parametric contrastive learning, with a momentum encoder and a queue (Cui et al., ICCV 2021, section 3).

    The formula is ``functional.contrastive.parametric_contrastive``'s, at logits z + log pi: the class
    centres are the classifier's weights. Keys are the other images of the batch, a further view of each image seen by
    the momentum encoder, and the ``queue`` last of such keys. Tests use the network with its
    classifier alone. Images may be mixed; keys are not.

    The momentum encoder and the queue are saved with the run, which resumes exactly, and the queue grows from empty.
    On several devices it holds the keys of all of them; images of a batch are contrasted on their own device, and
    batches are not shuffled between devices.

    Args:
        class_counts: training images of each class, at least 1 each, (C,).
        network: to copy the momentum encoder from.
        feature_dim: D', the width of the classifier's input.
        alpha: weight of another sample of the class, whose centre has 1; 0.01 to 0.02 for CIFAR100-LT, 0.05 for the
            large sets.
        temperature: of similarities between samples, positive; 0.05 for CIFAR100-LT, 0.2 for the large sets.
        queue: number of keys, at least 1; 1024 for CIFAR100-LT, 8192 for the large sets.
        momentum: of the momentum encoder, in [0, 1), per batch: with gradient accumulation several times per step.
        dim: of the keys; 32 for CIFAR100-LT, 128 for the large sets.
    """

    paper: ClassVar[str] = "PaCo, parametric contrastive learning (Cui et al., ICCV 2021)"
    contrast_views: ClassVar[int] = 1

    adjustment: Tensor
    queue: Tensor  # (K, dim), normalised
    queue_labels: Tensor  # (K,), -1 where there is no key yet
    position: Tensor  # (), where the next key goes

    @checked
    def __init__(
        self,
        class_counts: Sequence[int] | Tensor,
        network: nn.Module,
        feature_dim: int,
        *,
        alpha: NonNegative = 0.01,
        temperature: Positive = 0.05,
        queue: Count = 1024,
        momentum: ShareBelowOne = 0.999,
        dim: Count = 32,
    ):
        super().__init__()
        (arguments_of(self) or {}).pop("network", None)  # it belongs to another module
        self.alpha, self.temperature, self.momentum = alpha, temperature, momentum
        self.projector = projector(feature_dim, feature_dim, dim)
        self.encoder = copy.deepcopy(network).requires_grad_(False)
        self.key_projector = copy.deepcopy(self.projector).requires_grad_(False)
        self.register_constant("adjustment", logit_adjustment(class_counts))
        self.register_buffer("queue", torch.zeros(queue, dim))
        self.register_buffer("queue_labels", torch.full((queue,), -1))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))

    def check_run(self, network: nn.Module, batch_size: int) -> None:
        """CarltError for batches of one image, which batch normalisation cannot train on."""
        if batch_size < 2:
            raise CarltError(f"data.batch_size={batch_size}: PaCo's projector normalises batches; give at least 2")

    def compute_loss(self, network: nn.Module, step: StepInput) -> StepOutput:
        """A pass through the network, and one without gradient through the momentum encoder."""
        if step.contrast is None:
            raise CarltError("PaCo needs a further view of each image: give StepInput.contrast")
        seen = extract_features(network, step.images)
        logits = get_classifier(network)(seen)
        targets = step.relabelled(seen)
        keys = self._keys(network, step.contrast[0])
        loss = self(
            logits,
            targets,
            self.projector(seen),
            torch.cat([keys, self.queue]),
            torch.cat([step.labels, self.queue_labels]),
        )
        self._enqueue(keys, step.labels)
        return StepOutput(logits, targets, loss)

    def forward(self, logits: Tensor, targets: Tensor, queries: Tensor, keys: Tensor, key_labels: Tensor) -> Tensor:
        """Scalar: logits (N, C) and their targets (N,) or (N, C), queries (N, dim), keys (M, dim) and labels (M,)."""
        adjusted = at_least_float32(logits) + self.adjustment
        return parametric_contrastive(adjusted, targets, queries, keys, key_labels, self.alpha, self.temperature)

    @torch.no_grad()
    def _keys(self, network: nn.Module, images: Tensor) -> Tensor:
        """Keys (N, dim) of the momentum encoder, which takes a step after the network first."""
        for slow, fast in ((self.encoder, network), (self.key_projector, self.projector)):
            for mine, theirs in zip(slow.parameters(), fast.parameters(), strict=True):
                mine.lerp_(theirs, 1 - self.momentum)
        keys = self.key_projector(extract_features(self.encoder, images))
        return nn.functional.normalize(keys.to(self.queue.dtype), dim=1)

    @torch.no_grad()
    def _enqueue(self, keys: Tensor, labels: Tensor) -> None:
        """Put the keys of all ranks in the place of the oldest ones."""
        (keys, labels), _, _ = gather_ragged((keys, labels))
        size = len(self.queue)
        keys, labels = keys[-size:], labels[-size:]
        places = (self.position + torch.arange(len(keys), device=keys.device)) % size
        self.queue[places], self.queue_labels[places] = keys, labels
        self.position.add_(len(keys)).remainder_(size)
