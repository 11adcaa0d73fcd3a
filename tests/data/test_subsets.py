"""The named subsets against loops that say what the published codes do."""

import numpy as np
import pytest
import torch

from carlt.data.subsets import make_long_tailed
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


def test_validation_comes_from_the_unused_images():
    train, val = make_long_tailed(TARGETS, 4, imbalance_factor=4, largest=15, val_per_class=5)
    assert not set(train.tolist()) & set(val.tolist())
    assert TARGETS[val].bincount().tolist() == [5] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_per_class": 3}, "class 0 has 0 images left for validation.*lower data.largest_class by 3"),
        ({"largest": 21}, "class 0 has 20 images, the profile needs 21"),
        ({"rule": "lda"}, "data.subset is ldam, concutmix, first or a seed"),
        ({"rule": -1}, "data.subset is"),
        ({"imbalance_factor": 0.5}, "must be at least 1"),
        ({"profile": "linear"}, "data.profile is one of exponential, step, pareto"),
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
