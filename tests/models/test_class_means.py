"""Running class means: an EMA of each class's batch means."""

import pytest
import torch

from carlt.errors import CarltError
from carlt.models.class_means import RunningClassMeans


def test_means_follow_a_naive_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    means, naive = RunningClassMeans(5, 3, momentum=0.8).double(), {}
    for _ in range(20):
        features = torch.randn(8, 3, generator=generator, dtype=torch.float64)
        labels = torch.randint(0, 4, (8,), generator=generator)  # class 4 is never seen
        means.update(features.requires_grad_(), labels)
        for label in set(labels.tolist()):
            batch = features.detach()[labels == label].mean(0)
            naive[label] = batch if label not in naive else 0.8 * naive[label] + 0.2 * batch
    torch.testing.assert_close(means.means[:4], torch.stack([naive[label] for label in range(4)]))
    assert means.means[4].isnan().all()
    assert not means.means.requires_grad


def test_a_momentum_out_of_range_is_named() -> None:
    with pytest.raises(CarltError, match="momentum=1"):
        RunningClassMeans(2, 2, momentum=1)


def test_autocast_does_not_round_the_means() -> None:
    means = RunningClassMeans(1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        means.update(torch.tensor([[1.2345678]]), torch.tensor([0]))
    assert means.means.item() == pytest.approx(1.2345678, abs=1e-6)
