"""``python -m carlt.train`` for trainer.precision=bf16-mixed on a processor without bfloat16 instructions.

PyTorch's bfloat16 convolution is very slow there. Here float32 instructions compute the same function: inputs and
weights are rounded to bfloat16, products are summed in float32, and the result is rounded to bfloat16.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from carlt.train import main

conv2d = F.conv2d
Pair = tuple[int, int]


class RoundedConvolution(torch.autograd.Function):
    """A convolution of bfloat16 tensors without bias, forward and backward, summed in float32."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair, groups: int
    ) -> Tensor:
        """(N, C, H, W) to (N, D, H', W'), both bfloat16."""
        ctx.save_for_backward(images, weight)
        ctx.options = None, stride, padding, dilation, False, (0, 0), groups
        return torch.convolution(images.float(), weight.float(), *ctx.options).bfloat16()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of images and weight, in bfloat16."""
        images, weight = (saved.float() for saved in ctx.saved_tensors)
        wanted = [*ctx.needs_input_grad[:2], False]
        found = torch.ops.aten.convolution_backward(gradients[0].float(), images, weight, *ctx.options, wanted)
        return *(None if gradient is None else gradient.bfloat16() for gradient in found[:2]), None, None, None, None


def rounded_conv2d(
    images: Tensor, weight: Tensor, bias: Tensor | None = None,
    stride: int | Pair = 1, padding: str | int | Pair = 0, dilation: int | Pair = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """``torch.nn.functional.conv2d``; within autocast on a CPU, ``RoundedConvolution``."""
    if not torch.is_autocast_enabled("cpu") or bias is not None or isinstance(padding, str):
        return conv2d(images, weight, bias, stride, padding, dilation, groups)
    pairs = ((value, value) if isinstance(value, int) else value for value in (stride, padding, dilation))
    with torch.autocast("cpu", enabled=False):
        return RoundedConvolution.apply(images.bfloat16(), weight.bfloat16(), *pairs, groups)


if __name__ == "__main__":
    F.conv2d = rounded_conv2d
    main()
