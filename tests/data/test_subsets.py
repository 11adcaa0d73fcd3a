"""The named subsets against loops that say what the published codes do."""

import numpy as np
import pytest
import torch

from carlt.data.subsets import make_long_tailed, thin
from carlt.errors import CarltError

TARGETS = torch.from_numpy(np.random.default_rng(0).permutation(np.repeat(np.arange(4), 20)))


def test_ldam_is_numpys_global_generator_class_after_class():
    generator = np.random.RandomState(0)  # what np.random.seed(0) seeds
    expected = []
    for label, n in enumerate((20, 12, 7, 5)):
        indices = np.where(TARGETS.numpy() == label)[0]
        generator.shuffle(indices)
        expected += indices[:n].tolist()
    train, _ = make_long_tailed(TARGETS, 4, imbalance_factor=4)
    assert train.tolist() == expected


def test_first_takes_the_first():
    train, _ = make_long_tailed(TARGETS, 4, imbalance_factor=20, rule="first")
    expected = [i for label, n in enumerate((20, 7, 2, 1)) for i in np.where(TARGETS.numpy() == label)[0][:n]]
    assert train.tolist() == expected


def test_rules_differ_and_a_seed_is_a_rule():
    chosen = {
        rule: make_long_tailed(TARGETS, 4, imbalance_factor=4, rule=rule)[0].tolist()
        for rule in ("ldam", "concutmix", "first")
    }
    assert len(set(map(tuple, chosen.values()))) == 3
    assert make_long_tailed(TARGETS, 4, imbalance_factor=4, rule=10)[0].tolist() == chosen["concutmix"]


def test_a_smaller_subset_is_part_of_a_larger_one():
    small, large = (set(make_long_tailed(TARGETS, 4, imbalance_factor=4, largest=n)[0].tolist()) for n in (12, 20))
    assert small < large


def test_the_largest_class_has_as_many_as_every_class_could_have():
    targets = torch.arange(2).repeat_interleave(torch.tensor([8, 6]))
    train, _ = make_long_tailed(targets, 2, imbalance_factor=2, rule="first")
    assert targets[train].bincount().tolist() == [6, 3]


def test_validation_comes_from_the_unused_images():
    train, val = make_long_tailed(TARGETS, 4, imbalance_factor=4, largest=15, val_per_class=5)
    assert not set(train.tolist()) & set(val.tolist())
    assert TARGETS[val].bincount().tolist() == [5] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_per_class": 3}, "class 0 has 0 images left for validation.*lower data.largest_class by 3"),
        ({"largest": 21}, "class 0 has 20 images, the profile needs 21"),
        ({"rule": "lda"}, "rule='lda': expected one of ldam, concutmix, first or an integer"),
        ({"rule": -1}, "rule=-1: expected"),
        ({"rule": 2**32}, "rule=4294967296: expected"),
        ({"imbalance_factor": 0.5}, "must be at least 1"),
        ({"profile": "linear"}, "profile='linear': expected one of exponential, step, pareto"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(CarltError, match=message):
        make_long_tailed(TARGETS, 4, **({"imbalance_factor": 4} | options))


def test_validation_takes_the_first_images_that_training_leaves() -> None:
    train, val = make_long_tailed(TARGETS, 4, imbalance_factor=4, largest=10, val_per_class=2, rule="first")
    for label in range(4):
        own = (label == TARGETS).nonzero().squeeze(1).tolist()
        kept = sum(int(TARGETS[i]) == label for i in train.tolist())
        assert [i for i in val.tolist() if int(TARGETS[i]) == label] == own[kept : kept + 2]


COUNTS = torch.tensor([40, 400, 12, 5, 150, 9, 5, 80])
"""Of a set that is long-tailed already, its classes in any order: imbalance factor 80."""
LISTED = torch.repeat_interleave(torch.arange(8), COUNTS)[
    torch.randperm(701, generator=torch.Generator().manual_seed(0))
]


@pytest.mark.parametrize(("factor", "largest", "smallest"), [(10, 50, 5), (7, 35, 5), (80, 400, 5), (200, 400, 2)])
@pytest.mark.parametrize("profile", ["exponential", "pareto", "step"])
def test_a_listed_set_is_thinned_to_the_factor(factor, largest, smallest, profile):
    kept = thin(LISTED, 8, imbalance_factor=factor, profile=profile)
    counts = LISTED[kept].bincount(minlength=8)
    assert (counts.max(), counts.min()) == (largest, smallest)
    assert (counts <= COUNTS).all()
    by_rank = COUNTS.argsort(descending=True, stable=True)
    assert (counts[by_rank].diff() <= 0).all()  # a class that had more images has not fewer now
    assert torch.equal(kept, kept.sort().values)


def test_thinning_is_the_profile_by_rank_as_far_as_there_are_images():
    kept = thin(LISTED, 8, imbalance_factor=10, rule="first")
    ranked = sorted(range(8), key=lambda c: (-int(COUNTS[c]), c))
    expected = []
    for rank, label in enumerate(ranked):
        images = [i for i, y in enumerate(LISTED.tolist()) if y == label]
        expected += images[: int(50 * 0.1 ** (rank / 7) + 1e-9)]
    assert kept.tolist() == sorted(expected)


def test_rounding_takes_no_image_of_the_smallest_class():
    counts = LISTED[thin(LISTED, 8, imbalance_factor=49, largest=196)].bincount(minlength=8)
    assert counts.min() == 4  # 196 / 49, though 196 * (1 / 49) is a little less in floating point


def test_a_class_without_images_is_not_the_smallest():
    counts = LISTED[thin(LISTED, 9, imbalance_factor=10)].bincount(minlength=9)  # class 8 is empty
    assert (counts.max(), counts[8]) == (50, 0)


def test_thinning_by_the_set_s_own_factor_keeps_the_ends():
    counts = LISTED[thin(LISTED, 8, imbalance_factor=80)].bincount(minlength=8)
    assert (counts[1], counts[3], counts[6]) == (400, 5, 5)


def test_a_thinner_subset_is_part_of_a_fuller_one():
    few, many = (set(thin(LISTED, 8, imbalance_factor=20, largest=n).tolist()) for n in (50, 100))
    assert few < many


def test_a_larger_class_than_there_is_cannot_be_had():
    with pytest.raises(CarltError, match=r"data.largest_class=401: the largest class has 400 images"):
        thin(LISTED, 8, imbalance_factor=10, largest=401)


def test_a_factor_that_leaves_no_image_of_a_class_is_refused():
    with pytest.raises(CarltError, match=r"data\.imbalance_factor=500 leaves less than one of 400 images"):
        thin(LISTED, 8, imbalance_factor=500)
