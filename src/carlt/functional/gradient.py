"""A value whose gradient was computed beside it."""

from typing import Any

import torch
from torch import Tensor


class WithGradient(torch.autograd.Function):
    """``apply(x, value, gradient, weight)``: ``weight * value``, a scalar whose gradient with respect to x (...) is
    ``gradient``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, gradient: Tensor, weight: float) -> Tensor:
        ctx.save_for_backward(gradient)
        return weight * value

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> Any:
        return outer * ctx.saved_tensors[0], None, None, None
