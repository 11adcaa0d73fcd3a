"""functional.adjustment: a trained classifier, changed without training."""

import math

import pytest
import torch

from carlt.errors import CarltError
from carlt.functional import tau_normalized, without_prior
from carlt.losses import LogitAdjusted


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
def test_tau_normalization_by_loops(tau):
    weight = torch.tensor([[3.0, 4.0], [0.3, -0.4], [-1.0, 0.0]], dtype=torch.float64)
    expected = [[x / math.hypot(*row) ** tau for x in row] for row in weight.tolist()]
    torch.testing.assert_close(tau_normalized(weight, tau), torch.tensor(expected).double())


def test_lengths_go_from_their_own_to_one():
    weight = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
    assert torch.equal(tau_normalized(weight, 0.0), weight)
    length = tau_normalized(weight, 1.0).norm(dim=1)
    torch.testing.assert_close(length, torch.ones(6))
    # So at 1 how long a class's weights are no longer matters to what is predicted.
    scaled = weight * torch.arange(1, 7)[:, None]
    torch.testing.assert_close(tau_normalized(scaled, 1.0), tau_normalized(weight, 1.0))


@pytest.mark.parametrize("tau", [0.0, 1.0, 2.0])
def test_a_class_without_weights_stays_without(tau):
    assert torch.equal(tau_normalized(torch.zeros(2, 3), tau), torch.zeros(2, 3))


def test_the_prior_by_loops():
    logits, counts = [[0.5, -1.0, 2.0]], [6, 3, 1]
    expected = [[z - 1.5 * math.log(n / 10) for z, n in zip(logits[0], counts, strict=True)]]
    torch.testing.assert_close(
        without_prior(torch.tensor(logits).double(), counts, 1.5), torch.tensor(expected).double()
    )


def test_a_posterior_becomes_that_of_equal_classes():
    given = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]]).double()  # p(x | c), one row per class
    counts = torch.tensor([90, 10])
    posterior = (counts[:, None] * given).T
    equal = given.T
    adjusted = without_prior(posterior.log(), counts).softmax(1)
    torch.testing.assert_close(adjusted, equal / equal.sum(1, keepdim=True))
    assert (posterior.argmax(1) == 0).all()
    assert adjusted.argmax(1).tolist() == [0, 1, 1]


def test_in_training_or_after_it_is_one_adjustment():
    logits, labels = torch.randn(5, 3).double(), torch.tensor([0, 1, 2, 0, 1])
    trained = LogitAdjusted([6, 3, 1])(without_prior(logits, [6, 3, 1]), labels)
    torch.testing.assert_close(trained, torch.nn.functional.cross_entropy(logits, labels), rtol=1e-6, atol=0)


@pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 4, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_precision_stay(shape, dtype):
    result = without_prior(torch.zeros(shape, dtype=dtype), [6, 3, 1])
    assert (result.shape, result.dtype) == (torch.Size(shape), dtype)


def test_mistakes():
    for tau in (-1, math.nan):
        with pytest.raises(CarltError, match=f"tau={tau}"):
            tau_normalized(torch.ones(2, 2), tau)
    with pytest.raises(CarltError, match="4 classes do not fit class_counts of 3"):
        without_prior(torch.zeros(2, 4), [6, 3, 1])
