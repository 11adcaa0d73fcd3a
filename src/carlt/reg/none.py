"""No regularizer, as an explicit choice."""

from typing import ClassVar

from torch import Tensor, nn


class NoRegularizer(nn.Module):
    """penalty = 0 for any logits (N, C) and targets; part of the graph, with a zero gradient."""

    paper: ClassVar[str] = "No regularizer"
    has_gradient: ClassVar[bool] = False

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return logits[:0].sum()  # unlike 0 * logits.sum(), zero for infinite logits too
