"""A value whose gradient was computed beside it."""

from typing import Any

import torch
from torch import Tensor

from carlt.errors import CarltError


class WithGradient(torch.autograd.Function):
    """``apply(x, value, gradient, weight)`` is ``weight * value``, a scalar; its gradient with respect to x is
    ``gradient``, a constant of the shape of x.

    Raises:
        CarltError: under ``create_graph=True``, because there is no second derivative.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, gradient: Tensor, weight: float) -> Tensor:
        ctx.save_for_backward(gradient)
        return weight * value

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> Any:
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            raise CarltError("CAR has no second derivative: leave out create_graph=True")
        return outer * ctx.saved_tensors[0], None, None, None
