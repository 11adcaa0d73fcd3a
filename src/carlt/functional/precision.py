"""The least precision that formulas are computed in."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` in float32 if it is in half precision (float16, bfloat16); else ``x`` itself."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
