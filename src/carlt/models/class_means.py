"""Running means of each class's features."""

import torch
from torch import Tensor, nn

from carlt.distributed import gather_ragged
from carlt.ranges import ShareBelowOne, checked


class RunningClassMeans(nn.Module):
    """mean_c <- momentum * mean_c + (1 - momentum) * (mean of class c's features in the batch), without gradient.

    The first batch that holds a class sets its mean. With torch.distributed, the batch is that of all ranks.

    Args:
        num_classes: C.
        dim: D, the width of the features.
        momentum: in [0, 1).
    """

    means: Tensor  # (C, D), NaN where a class has not been seen

    @checked
    def __init__(self, num_classes: int, dim: int, momentum: ShareBelowOne = 0.9):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("means", torch.full((num_classes, dim), torch.nan))

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Take a batch in: features (N, D) and labels int64 (N,)."""
        (features, labels), _, _ = gather_ragged((features.to(self.means.dtype), labels))
        members = nn.functional.one_hot(labels, len(self.means)).to(features.dtype)
        count = members.sum(0)[:, None]
        with torch.autocast(features.device.type, enabled=False):  # else the product is rounded to 16 bits
            batch = members.T @ features / count.clamp_min(1)
        moved = torch.where(self.means.isnan(), batch, torch.lerp(batch, self.means, self.momentum))
        self.means.copy_(torch.where(count > 0, moved, self.means))
