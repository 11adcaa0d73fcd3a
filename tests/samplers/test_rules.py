"""Samplers: the class frequencies they promise; and the schedule: equal under any world size, resumable anywhere."""

import pytest
import torch

from carlt.config.compose import compose_config, options
from carlt.config.instantiate import plain_values
from carlt.config.targets import locate
from carlt.errors import CarltError
from carlt.samplers import (
    BatchSchedule,
    ClassAware,
    ClassBalanced,
    Deferred,
    Instance,
    PowerLaw,
    ProgressivelyBalanced,
    SquareRoot,
)
from carlt.testing import check_sampler

COUNTS = torch.tensor([900, 0, 90, 10])  # class 1 has no image
TARGETS = torch.arange(4).repeat_interleave(COUNTS)[torch.randperm(1000, generator=torch.Generator().manual_seed(0))]
SAMPLERS = [Instance(), ClassBalanced(), SquareRoot(), ClassAware(4), ProgressivelyBalanced(11), Deferred(5)]


def shares(sampler, epoch, seeds=30):
    """Mean share of each class in the epochs of many seeds."""
    orders = [sampler.order(TARGETS, epoch, torch.Generator().manual_seed(seed)) for seed in range(seeds)]
    return torch.stack([TARGETS[order].bincount(minlength=4) for order in orders]).double().mean(0) / len(TARGETS)


@pytest.mark.parametrize(
    ("sampler", "epoch", "expected"),
    [
        (Instance(), 0, [0.9, 0, 0.09, 0.01]),
        (PowerLaw(1), 0, [0.9, 0, 0.09, 0.01]),
        (SquareRoot(), 0, [0.7034, 0, 0.2224, 0.0741]),
        (ClassBalanced(), 0, [1 / 3, 0, 1 / 3, 1 / 3]),
        (ClassAware(4), 0, [1 / 3, 0, 1 / 3, 1 / 3]),
        (Deferred(200), 159, [0.9, 0, 0.09, 0.01]),
        (Deferred(200), 160, [1 / 3, 0, 1 / 3, 1 / 3]),
        (Deferred(4, start=0.5, power=0.5), 2, [0.7034, 0, 0.2224, 0.0741]),
        (Deferred(4, start=0.0), 0, [1 / 3, 0, 1 / 3, 1 / 3]),
        (ProgressivelyBalanced(11), 0, [0.9, 0, 0.09, 0.01]),
        (ProgressivelyBalanced(11), 5, [0.45 + 1 / 6, 0, 0.045 + 1 / 6, 0.005 + 1 / 6]),
        (ProgressivelyBalanced(11), 10, [1 / 3, 0, 1 / 3, 1 / 3]),
        (ProgressivelyBalanced(11), 99, [1 / 3, 0, 1 / 3, 1 / 3]),
    ],
)
def test_class_frequencies(sampler, epoch, expected):
    torch.testing.assert_close(shares(sampler, epoch), torch.tensor(expected).double(), atol=0.01, rtol=0)


@pytest.mark.parametrize("name", options("sampler"))
def test_every_sampler(name: str) -> None:
    values = plain_values(compose_config("train", [f"sampler={name}"]).sampler)
    check_sampler(locate(values.pop("_target_")), **values)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_within_a_class_every_image_is_alike(sampler):
    orders = torch.cat([sampler.order(TARGETS, 10, torch.Generator().manual_seed(seed)) for seed in range(200)])
    drawn = orders.bincount(minlength=len(TARGETS)).double()
    for label in (0, 2, 3):
        own = drawn[label == TARGETS]
        assert max((own - own.mean()).abs()) < 6 * own.mean().sqrt()


def test_class_aware_batches_are_shuffled_within():
    plain = list(BatchSchedule(TARGETS, ClassAware(4, shuffle=False), 64, seed=3).batches(2))
    shuffled = list(BatchSchedule(TARGETS, ClassAware(4), 64, seed=3).batches(2))
    for one, other in zip(plain, shuffled, strict=True):
        assert torch.equal(one.sort().values, other.sort().values)

    def neighbours(batches):  # of one class, which torchvision's mixup and cutmix would mix
        pairs = [TARGETS[batch] == TARGETS[batch.roll(1)] for batch in batches]
        return torch.cat(pairs).double().mean()

    assert neighbours(plain) > 0.75
    assert neighbours(shuffled) < 0.4  # three classes, alike


def test_class_aware_batches_are_shuffled_in_different_ways():
    targets = torch.arange(10).repeat(100)  # no image is in a batch twice
    plain = BatchSchedule(targets, ClassAware(4, shuffle=False), 64, seed=3).batches(2)
    shuffled = BatchSchedule(targets, ClassAware(4), 64, seed=3).batches(2)
    places = [(next(plain)[:, None] == next(shuffled)).nonzero()[:, 1] for _ in range(2)]
    assert not torch.equal(*places)


def test_class_aware_groups_and_rounds():
    order = ClassAware(4).order(TARGETS, 0, torch.Generator().manual_seed(0))
    groups = TARGETS[order].view(-1, 4)
    assert (groups == groups[:, :1]).all()  # four images of a class in a row
    assert TARGETS[order].bincount(minlength=4).tolist() == pytest.approx([333, 0, 333, 333], abs=4)
    tail = order[TARGETS[order] == 3]
    assert all(len(round_.unique()) == 10 for round_ in tail[:330].view(-1, 10))  # again only after all others


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_epochs_differ_and_repeat(sampler):
    def order(seed, epoch):
        return torch.cat(list(BatchSchedule(TARGETS, sampler, 64, seed).batches(epoch)))

    assert torch.equal(order(0, 3), order(0, 3))
    assert not torch.equal(order(0, 3), order(0, 4))
    assert not torch.equal(order(0, 3), order(1, 3))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_share_the_global_batches(sampler, world_size):
    size = 48 // world_size
    whole = list(BatchSchedule(TARGETS, sampler, 48, seed=1).batches(2))
    ranks = [list(BatchSchedule(TARGETS, sampler, size, 1, rank, world_size).batches(2)) for rank in range(world_size)]
    assert len({len(batches) for batches in ranks}) == 1  # no rank waits for another
    for batch, *parts in zip(whole, *ranks, strict=True):
        for rank, part in enumerate(parts):  # disjoint shards of the batch that one process would see
            assert torch.equal(part, batch[rank::world_size])


@pytest.mark.parametrize(("world_size", "rest", "batches"), [(1, 1, 2), (1, 2, 3), (2, 3, 2), (2, 4, 3)])
def test_no_rank_gets_a_batch_of_one_image(world_size, rest, batches):
    targets = torch.zeros(2 * 32 * world_size + rest, dtype=torch.int64)
    for rank in range(world_size):
        schedule = BatchSchedule(targets, Instance(), 32, 0, rank, world_size)
        sizes = [len(batch) for batch in schedule.batches(0)]
        assert len(sizes) == len(schedule) == batches
        assert min(sizes) >= 2


def test_a_resampled_schedule_draws_other_images():
    """Or patches would come from the very images that they are pasted into."""
    schedule = BatchSchedule(TARGETS, ClassBalanced(), 64, seed=3)
    pairs = zip(schedule.batches(0), schedule.resampled(ClassBalanced()).batches(0), strict=True)
    assert not any(torch.equal(batch, other) for batch, other in pairs)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_epoch_resumes_at_any_batch(sampler):
    schedule = BatchSchedule(TARGETS, sampler, 64, seed=3)
    whole = list(schedule.batches(5))
    for start in (0, 1, 7, 15, 16):
        rest = list(schedule.batches(5, start))
        assert len(rest) == len(schedule) - start
        assert all(torch.equal(*pair) for pair in zip(rest, whole[start:], strict=True)), start


@pytest.mark.parametrize(
    ("sampler", "complaint"),
    [
        (lambda: PowerLaw(2), "power=2"),
        (lambda: ClassAware(0), "per_class"),
        (lambda: Deferred(0), "epochs=0"),
        (lambda: Deferred(10, start=8), "start=8"),
        (lambda: ProgressivelyBalanced(0), "epochs"),
    ],
)
def test_mistakes(sampler, complaint):
    with pytest.raises(CarltError, match=complaint):
        sampler()
