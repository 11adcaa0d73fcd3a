"""The exponential moving average (EMA) of a network's weights."""

from itertools import chain

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


class EmaNetwork(AveragedModel):
    """A copy of ``network`` with the EMA of its weights and statistics: EMA <- d EMA + (1 - d) weights after each step.

    d = min(decay, 1 - (1 + t)^(-2/3)) at step t = 0, 1, ..., so that the initial weights do not stay in a short mean.
    Numbers that are no floats, such as counts of batches, are those of ``network``.
    """

    def __init__(self, network: nn.Module, decay: float):
        super().__init__(network, use_buffers=True)
        self.decay = decay
        self.requires_grad_(False)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """One step of the EMA. Unlike PyTorch's, it reads no number on the host, for which a GPU would wait."""
        share = (1 + self.n_averaged.double()).pow(-2 / 3).clamp_min(1 - self.decay)
        means = chain(self.module.parameters(), self.module.buffers())
        for mean, value in zip(means, chain(model.parameters(), model.buffers()), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, share.to(mean.dtype))
            else:
                mean.copy_(value)
        self.n_averaged += 1
