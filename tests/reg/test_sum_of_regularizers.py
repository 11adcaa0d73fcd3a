import pytest
import torch
from torch import Tensor, nn

from carlt.errors import CarltError
from carlt.reg import CAR, ConfidencePenalty, SumOfRegularizers

COUNTS = [40, 10, 4, 2]
LOGITS = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(8) % 4


def test_the_sum_with_its_gradient() -> None:
    parts = {"car": CAR(COUNTS, weight=0.7), "confidence_penalty": ConfidencePenalty(weight=0.2)}
    logits = LOGITS.clone().requires_grad_()
    total = SumOfRegularizers(**parts)(logits, LABELS)
    (gradient,) = torch.autograd.grad(total, logits)

    alone = LOGITS.clone().requires_grad_()
    expected = CAR(COUNTS, weight=0.7)(alone, LABELS) + ConfidencePenalty(weight=0.2)(alone, LABELS)
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, alone)[0])


def test_state_is_saved_by_name() -> None:
    several = SumOfRegularizers(car=CAR(COUNTS), confidence_penalty=ConfidencePenalty())
    several(LOGITS, LABELS)
    restored = SumOfRegularizers(car=CAR(COUNTS), confidence_penalty=ConfidencePenalty())
    restored.load_state_dict(several.state_dict())
    assert "car.confusion" in several.state_dict()
    assert restored["car"].confusion.equal(several["car"].confusion)


def test_the_loss_sees_the_offsets_of_each() -> None:
    one, other = CAR(COUNTS, offset_rate=0.01), CAR(COUNTS, offset_rate=0.02)
    several = SumOfRegularizers(one=one, confidence_penalty=ConfidencePenalty(), other=other)
    several(LOGITS, LABELS)
    assert one.offset is not None
    assert other.offset is not None
    assert one.offset.any()
    torch.testing.assert_close(several.adjust(LOGITS), LOGITS - one.offset - other.offset)


def test_who_wants_to_know_is_told_how_far_training_is() -> None:
    class Ramp(nn.Module):
        def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
            return logits.sum()

        def set_progress(self, progress: float) -> None:
            self.progress = progress

    several = SumOfRegularizers(car=CAR(COUNTS), ramp=Ramp())
    several.set_progress(0.25)
    assert several["ramp"].progress == 0.25


def test_none_is_an_error() -> None:
    with pytest.raises(CarltError, match=r"combine them as reg=\[car,confidence_penalty\]"):
        SumOfRegularizers()
