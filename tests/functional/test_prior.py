"""functional.prior: frequencies and what is built from them."""

import math

import pytest
import torch

from carlt.errors import CarltError
from carlt.functional import effective_number_weights, frequency_weights, logit_adjustment, relative_frequency


def test_values():
    counts = [6, 3, 1]
    torch.testing.assert_close(relative_frequency(counts), torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64))
    for r0 in (0.2, 0.0):
        expected = torch.tensor([1 / math.sqrt(m + r0) for m in (0.6, 0.3, 0.1)], dtype=torch.float64)
        torch.testing.assert_close(frequency_weights(counts, r0), expected)
    expected = torch.tensor([2 * math.log(m) for m in (0.6, 0.3, 0.1)], dtype=torch.float64)
    torch.testing.assert_close(logit_adjustment(counts, 2.0), expected)


def test_effective_number_goes_from_equal_to_inverse_frequency():
    counts = torch.tensor([50, 10, 1])
    torch.testing.assert_close(effective_number_weights(counts, 0.0), torch.ones(3, dtype=torch.float64))
    inverse = 1 / counts.double()
    close = effective_number_weights(counts, 1 - 1e-9)
    torch.testing.assert_close(close, inverse / inverse.mean(), rtol=1e-6, atol=0)
    torch.testing.assert_close(effective_number_weights(counts, 1.0), inverse / inverse.mean())
    weights = [(1 - 0.9) / (1 - 0.9**n) for n in (50, 10, 1)]
    expected = torch.tensor(weights, dtype=torch.float64) * 3 / sum(weights)
    torch.testing.assert_close(effective_number_weights(counts, 0.9), expected)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ([3, 0, 2], "class 1: 0"),
        ([3, -1], "below 1"),
        ([], "at least 2 classes"),
        ([5], "2 classes"),
        ([1.5, 2], "whole"),
        ([float("inf"), 2.0], "finite"),
        ([1e19, 2.0], "finite"),
    ],
)
def test_impossible_counts_are_named(counts, said):
    with pytest.raises(CarltError, match=said):
        relative_frequency(counts)


def test_ranges():
    with pytest.raises(CarltError, match="r0"):
        frequency_weights([1, 2], -0.1)
    with pytest.raises(CarltError, match="beta"):
        effective_number_weights([1, 2], 1.1)
