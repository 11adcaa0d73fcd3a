"""What a loss that runs the network itself is given, and what it returns."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class StepInput(NamedTuple):
    """A training batch, images normalised: what ``loss.compute_loss(network, step)`` works on."""

    images: Tensor
    """(N, channels, H, W), mixed where the augmentation mixes."""
    targets: Tensor
    """Labels of ``images``: int64 (N,), or soft (N, C)."""
    labels: Tensor
    """int64 (N,), of the images before mixing and of ``contrast``."""
    contrast: Tensor | None = None
    """``loss.contrast_views`` further views, (V, N, channels, H, W)."""
    relabel: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    """Where images were pasted: (embedded images (N, D), class centres (C, D), targets (N, C)) to better targets."""
    second: tuple[Tensor, Tensor] | None = None
    """A further batch and its labels, shaped as ``images`` and ``labels``, where ``aug.second`` asks for it."""


class StepOutput(NamedTuple):
    """What came of a step; metrics and the regularizer see ``logits`` and ``targets``."""

    logits: Tensor
    """(M, C), with gradient."""
    targets: Tensor
    """int64 (M,), or soft (M, C)."""
    loss: Tensor
    """Scalar."""
