"""GML-NOLB against its formula written as loops."""

import math

import pytest
import torch

from carlt.losses import GMLNOLB, BalancedSoftmax

COUNTS = [500, 40, 7, 2]


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()


LABELS = torch.tensor([0, 1, 3, 3, 0, 0, 0])  # class 2 is not in the batch


def by_loops(rows: list[list[float]], share: list[list[float]]) -> float:
    total, classes = 0.0, 0
    for c in range(4):
        right = weight = 0.0
        for z, t in zip(rows, share, strict=True):
            e = [n * math.exp(v) for n, v in zip(COUNTS, z, strict=True)]
            right, weight = right + t[c] * e[c] / sum(e), weight + t[c]
        if weight:
            total, classes = total - math.log(right / weight), classes + 1
    return total / classes


@pytest.mark.parametrize("soft", [False, True])
def test_against_loops_and_its_gradient(soft: bool, logits: torch.Tensor) -> None:
    loss, share = GMLNOLB(COUNTS).double(), torch.nn.functional.one_hot(LABELS, 4).double()
    loss.log_counts = torch.tensor(COUNTS).double().log()
    if soft:
        share = 0.3 * share + 0.7 * share.roll(1, 0)
    targets = share if soft else LABELS
    assert loss(logits, targets).item() == pytest.approx(by_loops(logits.tolist(), share.tolist()), rel=1e-12)
    assert torch.autograd.gradcheck(lambda z: loss(z, targets), logits)


def test_one_sample_a_class_is_balanced_softmax(logits: torch.Tensor) -> None:
    labels = torch.arange(4)
    torch.testing.assert_close(GMLNOLB(COUNTS)(logits[:4], labels), BalancedSoftmax(COUNTS)(logits[:4], labels))


def test_hopeless_samples_keep_a_gradient() -> None:
    logits = torch.tensor([[300.0, -300.0]], requires_grad=True)
    GMLNOLB([2, 1])(logits, torch.tensor([1])).backward()
    assert logits.grad.isfinite().all()
    assert logits.grad.abs().min() > 0.5
