"""The batches of an epoch: a sampler's order, cut into batches and shared out over the ranks."""

from collections.abc import Iterator

import torch
from torch import Tensor

from carlt.functional.seeds import derive_seed
from carlt.samplers.rules import Sampler, ShufflesBatches


class BatchSchedule:
    """Cuts each epoch's order into batches: a pure function of (seed, epoch), the same on any world size as long as
    ``batch_size * world_size`` is the same, but for a small remainder.

    Global batch b is a run of ``batch_size * world_size`` indices and rank r takes every world_size-th of it, so all
    ranks have equally many batches and sizes that differ by one at most. A remainder of fewer than two images per
    rank is left out, because batch normalisation cannot train on one image.

    Args:
        targets: labels of the training images, int64, (N,).
        sampler: orders the images of an epoch.
        batch_size: images per batch and rank.
        seed: of all draws.
        rank: in [0, ``world_size``).
        world_size: number of ranks.
    """

    def __init__(
        self, targets: Tensor, sampler: Sampler, batch_size: int, seed: int, rank: int = 0, world_size: int = 1
    ):
        self.targets, self.sampler, self.batch_size, self.seed = targets, sampler, batch_size, seed
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        full, rest = divmod(len(self.targets), self.batch_size * self.world_size)
        return full + (rest >= 2 * self.world_size)

    def resampled(self, sampler: Sampler) -> "BatchSchedule":
        """As many batches of the same sizes, in another order."""
        seed = derive_seed(self.seed, 1)
        return BatchSchedule(self.targets, sampler, self.batch_size, seed, self.rank, self.world_size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Tensor]:
        """Index batches ``start``, ``start + 1``, ... of ``epoch`` for this rank."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, epoch))
        order = self.sampler.order(self.targets, epoch, generator)
        shuffle = isinstance(self.sampler, ShufflesBatches) and self.sampler.shuffles_batches
        for step, batch in enumerate(order.split(self.batch_size * self.world_size)[start : len(self)], start):
            if shuffle:
                generator.manual_seed(derive_seed(self.seed, epoch, step))
                batch = batch[torch.randperm(len(batch), generator=generator)]
            yield batch[self.rank :: self.world_size]
