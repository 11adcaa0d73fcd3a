"""What every loss promises, and each against its formula written as loops."""

import inspect
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from carlt import losses
from carlt.config import signature
from carlt.errors import CarltError

COUNTS = torch.tensor([500, 40, 7, 1])
N, C = 6, len(COUNTS)
ALL = [loss for name in losses.__all__ if not hasattr(loss := getattr(losses, name), "contrast_views")]


def build(loss: type[nn.Module], counts: Tensor = COUNTS) -> nn.Module:
    needed = {"class_counts": counts} if "class_counts" in signature(f"carlt.losses.{loss.__name__}") else {}
    return loss(**needed)


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(N, C, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)


@pytest.fixture
def labels() -> Tensor:
    return torch.tensor([0, 1, 2, 3, 3, 0])


def naive(logits: Tensor, labels: Tensor, prior: Callable[[int], float]) -> float:
    """mean over the batch of -log( prior(y) e^z_y / sum_c prior(c) e^z_c ), by loops."""
    losses = []
    for z, y in zip(logits.tolist(), labels.tolist(), strict=True):
        weighted = [prior(c) * math.exp(value) for c, value in enumerate(z)]
        losses.append(-math.log(weighted[y] / sum(weighted)))
    return sum(losses) / len(losses)


def test_every_loss_module_is_exported() -> None:
    assert ALL
    assert all(inspect.isclass(loss) and issubclass(loss, nn.Module) for loss in ALL)


@pytest.mark.parametrize(
    ("loss", "prior"),
    [
        (losses.CrossEntropy(), lambda c: 1.0),
        (losses.BalancedSoftmax(COUNTS), lambda c: COUNTS[c].item()),
        (losses.LogitAdjusted(COUNTS), lambda c: COUNTS[c].item() / 548),
        (losses.LogitAdjusted(COUNTS, tau=1.5), lambda c: (COUNTS[c].item() / 548) ** 1.5),
        (losses.LogitAdjusted(COUNTS, tau=0.0), lambda c: 1.0),
    ],
)
def test_against_loops(loss: nn.Module, prior: Callable[[int], float], logits: Tensor, labels: Tensor) -> None:
    # The offsets are float32.
    assert loss(logits, labels).item() == pytest.approx(naive(logits, labels, prior), rel=1e-6)


@pytest.mark.parametrize("loss", ALL)
def test_gradient_is_right_and_not_zero(loss: type[nn.Module], logits: Tensor, labels: Tensor) -> None:
    module = build(loss)
    assert torch.autograd.gradcheck(lambda z: module(z, labels), logits)
    module(logits, labels).backward()
    assert (logits.grad.abs().sum(1) > 1e-3).all()


@pytest.mark.parametrize("loss", ALL)
def test_one_hot_labels_are_labels(loss: type[nn.Module], logits: Tensor, labels: Tensor) -> None:
    module = build(loss)
    torch.testing.assert_close(module(logits, one_hot(labels, C).double()), module(logits, labels))


@pytest.mark.parametrize("loss", ALL)
def test_soft_labels_mix_the_losses_of_their_classes(loss: type[nn.Module], logits: Tensor, labels: Tensor) -> None:
    module, others = build(loss), labels.roll(1)
    mixed = 0.3 * one_hot(labels, C).double() + 0.7 * one_hot(others, C).double()
    torch.testing.assert_close(
        module(logits, mixed), 0.3 * module(logits, labels) + 0.7 * module(logits, others), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("loss", ALL)
def test_numbering_the_classes_otherwise_changes_nothing(loss: type[nn.Module], logits: Tensor, labels: Tensor) -> None:
    order = torch.tensor([2, 0, 3, 1])
    renumbered = build(loss, COUNTS[order])
    place = order.argsort()
    torch.testing.assert_close(renumbered(logits[:, order], place[labels]), build(loss)(logits, labels))


@pytest.mark.parametrize("loss", ALL)
def test_the_order_of_the_batch_does_not_matter(loss: type[nn.Module], logits: Tensor, labels: Tensor) -> None:
    module, order = build(loss), torch.randperm(N, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(module(logits[order], labels[order]), module(logits, labels))


@pytest.mark.parametrize("loss", ALL)
def test_large_logits_stay_finite(loss: type[nn.Module], labels: Tensor) -> None:
    logits = torch.full((N, C), 1e4).index_fill(1, torch.tensor([1]), -1e4)
    assert build(loss)(logits, labels).isfinite()


@pytest.mark.parametrize("loss", ALL)
def test_a_checkpoint_needs_nothing_of_it(loss: type[nn.Module]) -> None:
    assert build(loss).state_dict() == {}


@pytest.mark.parametrize("loss", [losses.BalancedSoftmax, losses.LogitAdjusted])
def test_a_class_without_images_has_no_prior(loss: type[nn.Module]) -> None:
    with pytest.raises(CarltError, match="class 1: 0"):
        loss([3, 0, 2])
