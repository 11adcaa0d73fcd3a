import math

import numpy as np
import pytest
from scipy import stats

from carlt.reporting.statistics import mean_and_std, paired_difference


def test_spread_of_hand_worked_values() -> None:
    assert mean_and_std([1.0, 2.0, 6.0]) == (3.0, pytest.approx(math.sqrt(7)), 3)


def test_too_few_values() -> None:
    mean, deviation, n = mean_and_std([4.0])
    assert (mean, n) == (4.0, 1)
    assert math.isnan(deviation)
    mean, deviation, n = mean_and_std([])
    assert math.isnan(mean)
    assert n == 0


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_a_paired_interval_is_scipy_s(n: int) -> None:
    a, b = np.random.default_rng(n).normal(size=(2, n))
    interval = stats.ttest_rel(a, b).confidence_interval(0.95)
    mean, half, pairs = paired_difference(dict(enumerate(a.tolist())), dict(enumerate(b.tolist())))
    assert (mean - half, mean + half, pairs) == (pytest.approx(interval.low), pytest.approx(interval.high), n)


def test_only_seeds_that_both_have_are_paired() -> None:
    found = paired_difference({0: 5.0, 1: 7.0, 9: 100.0}, {1: 4.0, 0: 3.0, 4: -100.0})
    # Differences 2 and 3: t(1) 12.706 * 0.7071 / sqrt(2).
    assert found == (2.5, pytest.approx(6.353, abs=1e-3), 2)


def test_one_pair_has_no_interval_and_none_no_difference() -> None:
    mean, half, n = paired_difference({0: 1.0, 1: 2.0}, {1: 5.0})
    assert (mean, n) == (-3.0, 1)
    assert math.isnan(half)
    mean, _, n = paired_difference({0: 1.0}, {1: 5.0})
    assert math.isnan(mean)
    assert n == 0
