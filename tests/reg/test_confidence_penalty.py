import math

import pytest
import torch
from torch import Tensor

from carlt.errors import CarltError
from carlt.reg import ConfidencePenalty

N, C = 6, 5


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(N, C, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


TARGETS = torch.arange(N) % C


def test_it_is_minus_the_mean_entropy(logits: Tensor) -> None:
    entropy = 0.0
    for row in logits.tolist():
        total = sum(map(math.exp, row))
        entropy += sum(-(math.exp(z) / total) * math.log(math.exp(z) / total) for z in row)
    assert ConfidencePenalty(weight=0.3)(logits, TARGETS).item() == pytest.approx(-0.3 * entropy / N)


def test_its_ends(logits: Tensor) -> None:
    penalty = ConfidencePenalty(weight=1.0)
    assert penalty(torch.zeros(N, C), TARGETS).item() == pytest.approx(-math.log(C))
    assert penalty(1e4 * logits, TARGETS).item() == pytest.approx(0)


def test_gradient(logits: Tensor) -> None:
    penalty = ConfidencePenalty()
    assert torch.autograd.gradcheck(lambda z: penalty(z, TARGETS), logits.requires_grad_())
    (gradient,) = torch.autograd.grad(penalty(logits, TARGETS), logits)
    assert gradient.abs().min() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype, logits: Tensor) -> None:
    half = logits.to(dtype)
    assert torch.equal(ConfidencePenalty()(half, TARGETS), ConfidencePenalty()(half.float(), TARGETS))
    extreme = torch.tensor([[6e4, -6e4, 0.0]]).to(dtype).requires_grad_()  # log p is below float16's range
    (gradient,) = torch.autograd.grad(ConfidencePenalty()(extreme, TARGETS[:1]), extreme)
    assert gradient.isfinite().all()


def test_classes_may_be_renamed(logits: Tensor) -> None:
    order = torch.randperm(C)
    torch.testing.assert_close(ConfidencePenalty()(logits[:, order], TARGETS), ConfidencePenalty()(logits, TARGETS))


def test_weight_out_of_range() -> None:
    with pytest.raises(CarltError, match=r"weight=-0\.1: expected a finite number, at least 0"):
        ConfidencePenalty(weight=-0.1)
