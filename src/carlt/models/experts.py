"""Experts: a shared early network, and separate late stages and classifiers (RIDE)."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def expert_channels(channels: int, experts: int, share: float) -> int:
    """Channels of an expert's own stages: all of them for one expert, the given share for several."""
    return channels if experts == 1 else max(1, round(channels * share))


class Branches(nn.ModuleList):
    """Private stages side by side: maps (N, D, H, W) to the branches' maps, channels joined, (N, E * D', H', W')."""

    def __init__(self, branches: Iterable[nn.Module]):
        super().__init__(branches)

    def forward(self, shared: Tensor) -> Tensor:
        return torch.cat([branch(shared) for branch in self], 1)


class ExpertHeads(nn.ModuleList):
    """A classifier for each expert: joined features (N, E * D) to the mean of the experts' logits (N, C)."""

    def __init__(self, heads: Iterable[nn.Module]):
        super().__init__(heads)
        self.in_features = sum(head.in_features for head in self)  # type: ignore[misc]

    @property
    def weight(self) -> Tensor:
        """The experts' weights side by side, (C, E * D)."""
        return torch.cat([head.weight for head in self], 1)  # type: ignore[misc]

    def each(self, features: Tensor) -> Tensor:
        """Logits of every expert, (N, E, C)."""
        return torch.stack([head(own) for head, own in zip(self, features.chunk(len(self), 1), strict=True)], 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.each(features).mean(1)
