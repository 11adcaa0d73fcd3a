"""No regularizer, as an explicit choice."""

from typing import ClassVar

from torch import Tensor, nn

from carlt.ranges import checked


class NoRegularizer(nn.Module):
    """penalty = 0 for any logits (N, C) and targets; part of the graph, with a zero gradient."""

    paper: ClassVar[str] = "No regularizer"
    has_gradient: ClassVar[bool] = False

    @checked
    def __init__(self) -> None:
        super().__init__()

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return logits[:0].sum()  # unlike 0 * logits.sum(), zero for infinite logits too
