"""What every sampler promises."""

from typing import Any

import torch
from torch import Tensor

from carlt.samplers import BatchSchedule
from carlt.testing.part import Check, Part, require, run

COUNTS = (90, 0, 9, 1)
EPOCHS = 11


def check_sampler(sampler: Any, /, **options: Any) -> None:
    """Check a sampler: a class with ``order(targets, epoch, generator)``.

    Args:
        sampler: the class.
        options: values for its constructor; ``epochs`` is filled in.

    Raises:
        AssertionError: names the first promise that it breaks.
    """
    run(CHECKS, Part(sampler, options))


def build(part: Part) -> Any:
    """The sampler for a training of ``EPOCHS`` epochs."""
    return part.build(epochs=EPOCHS)


def targets() -> Tensor:
    """int64 (100,); class 1 has no image."""
    order = torch.randperm(sum(COUNTS), generator=torch.Generator().manual_seed(0))
    return torch.arange(len(COUNTS)).repeat_interleave(torch.tensor(COUNTS))[order]


def an_epoch_has_as_many_images_as_the_set(part: Part) -> None:
    """Each epoch is int64 indices (N,) of images that exist."""
    for epoch in (0, EPOCHS - 1, EPOCHS):
        order = build(part).order(targets(), epoch, torch.Generator().manual_seed(0))
        require(order.dtype == torch.int64 and order.shape == (sum(COUNTS),), f"epoch {epoch}: {tuple(order.shape)}")
        require(((order >= 0) & (order < sum(COUNTS))).all(), f"epoch {epoch}: an index is out of range")


def an_order_is_a_function_of_its_arguments(part: Part) -> None:
    """An order follows from targets, epoch and generator alone: a resumed run draws the same."""
    first = build(part).order(targets(), 3, torch.Generator().manual_seed(5))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    used = build(part)
    used.order(targets(), 2, torch.Generator().manual_seed(4))
    require(torch.equal(used.order(targets(), 3, torch.Generator().manual_seed(5)), first), "the order differs")
    require(torch.equal(torch.get_rng_state(), before), "it takes draws from torch's global generator")
    other = build(part).order(targets(), 3, torch.Generator().manual_seed(6))
    require(not torch.equal(other, first), "another generator gives the same order: nothing is shuffled")


def devices_share_an_epoch(part: Part) -> None:
    """The batches of two devices together are those of one."""

    def batches(rank: int, devices: int, size: int) -> Tensor:
        return torch.cat(list(BatchSchedule(targets(), build(part), size, 0, rank, devices).batches(1)))

    both = torch.cat([batches(0, 2, 5), batches(1, 2, 5)])
    require(torch.equal(both.sort().values, batches(0, 1, 10).sort().values), "the images differ")


CHECKS: tuple[Check, ...] = (
    an_epoch_has_as_many_images_as_the_set,
    an_order_is_a_function_of_its_arguments,
    devices_share_an_epoch,
)
