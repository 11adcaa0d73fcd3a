"""The input and the output of a loss that runs the network itself."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


def unchanged(logits: Tensor) -> Tensor:
    """The logits as they are."""
    return logits


class StepInput(NamedTuple):
    """A training batch with normalised images: the input of ``loss.compute_loss(network, step)``."""

    images: Tensor
    """(N, channels, H, W), mixed where the augmentation mixes."""
    targets: Tensor
    """Labels of ``images``: int64 (N,), or soft (N, C)."""
    labels: Tensor
    """int64 (N,), of the images before mixing and of ``contrast``."""
    contrast: Tensor | None = None
    """``loss.contrast_views`` further views, (V, N, channels, H, W)."""
    relabel: Callable[[Tensor, Tensor | None], Tensor] | None = None
    """With ``aug.relabel``: (features (N, D), class centres (C, D) or None) to the targets to train with. None takes
    running means of each class's features as centres."""
    second: tuple[Tensor, Tensor] | None = None
    """A further batch and its labels, shaped as ``images`` and ``labels``, where ``aug.second`` asks for it."""
    adjust: Callable[[Tensor], Tensor] = unchanged
    """The network's logits to those that the loss sees: a regularizer may shift classes (``CAR(offset_rate=...)``)."""

    def relabelled(self, features: Tensor, centres: Tensor | None = None) -> Tensor:
        """The targets to train with, for the features of ``images`` (see ``relabel``)."""
        return self.targets if self.relabel is None else self.relabel(features, centres)


class StepOutput(NamedTuple):
    """The result of a step; metrics and the regularizer use ``logits`` and ``targets``."""

    logits: Tensor
    """(N, C), of ``step.images`` in their order, with gradient."""
    targets: Tensor
    """int64 (N,), or soft (N, C)."""
    loss: Tensor
    """Scalar."""
