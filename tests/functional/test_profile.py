import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from carlt.errors import CarltError
from carlt.functional.profile import PROFILES, exponential_profile, pareto_profile, step_profile

sizes = {"largest": st.integers(1, 2000), "num_classes": st.integers(2, 50), "factor": st.floats(1, 500)}


@pytest.mark.parametrize("name", PROFILES)
@given(**sizes)
def test_every_profile_falls_from_the_largest_class_and_empties_none(
    name: str, largest: int, num_classes: int, factor: float
) -> None:
    counts = PROFILES[name](largest, num_classes, factor)
    assert counts.dtype == torch.int64
    assert counts[0] == largest
    assert (counts.diff() <= 0).all()
    assert abs(counts[-1] - max(1, largest / factor)) <= 1


@pytest.mark.parametrize(("factor", "images", "smallest"), [(10, 19573, 50), (50, 12608, 10), (100, 10847, 5)])
def test_cifar100_lt_has_the_published_sizes(factor: int, images: int, smallest: int) -> None:
    counts = exponential_profile(500, 100, factor)
    assert (int(counts.sum()), int(counts[0]), int(counts[-1])) == (images, 500, smallest)


def test_cifar10_lt_has_the_published_sizes() -> None:
    counts = exponential_profile(5000, 10, 100)
    assert counts.tolist() == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]


def test_step_profile_by_hand() -> None:
    assert step_profile(100, 5, 10).tolist() == [100, 100, 10, 10, 10]


def test_pareto_profile_falls_as_a_power_of_six() -> None:
    counts = pareto_profile(1280, 1000, 256).double()
    x = (256 ** (1 / 6) - 1) * torch.arange(1000).double() / 999
    assert ((1280 * (1 + x) ** -6 - counts).abs() <= 1).all()


def test_the_last_class_of_a_pareto_profile_keeps_its_whole_share() -> None:
    for factor in range(1, 301):
        assert pareto_profile(6 * factor, 10, factor)[-1] == 6


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("factor", [0.5, 0, -1, float("nan")])
def test_a_factor_below_one_is_refused(name: str, factor: float) -> None:
    with pytest.raises(CarltError, match="imbalance_factor"):
        PROFILES[name](100, 10, factor)


def test_no_images_are_refused() -> None:
    with pytest.raises(CarltError, match="at least one class and one image, not 10 and 0"):
        exponential_profile(0, 10, 10)
    with pytest.raises(CarltError, match="at least one class and one image, not 0 and 10"):
        exponential_profile(10, 0, 10)


def test_the_tail_of_a_step_profile_keeps_its_whole_share() -> None:
    assert step_profile(98, 2, 49).tolist() == [98, 2]
