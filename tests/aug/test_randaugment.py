"""timm's RandAugment on tensors: the released recipe's operations, drawn from torch's generator alone."""

import random

import numpy as np
import pytest
import torch

from carlt.aug import TimmRandAugment
from carlt.errors import CarltError


def images(channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (40, channels, 16, 16), dtype=torch.uint8, generator=generator)


def test_it_is_the_released_recipe() -> None:
    transform = TimmRandAugment().transform
    assert transform.num_layers == 2
    assert len(transform.ops) == 15
    assert {(op.prob, op.magnitude, op.magnitude_std) for op in transform.ops} == {(0.5, 10, 0.5)}
    level = {op.name: op.level_fn(10, op.hparams)[0] for op in transform.ops if op.name[:9] in ("Rotate", "Translate")}
    assert abs(level["Rotate"]) == 30
    assert abs(level["TranslateXRel"]) == abs(level["TranslateYRel"]) == 0.45  # 100 of 224 pixels


@pytest.mark.parametrize("channels", [1, 3])
def test_draws_follow_torch_s_generator_and_leave_the_others_alone(channels: int) -> None:
    augment, given = TimmRandAugment(), images(channels)
    before = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    torch.manual_seed(1)
    one = torch.stack([augment(image) for image in given])
    assert random.getstate() == before[0]
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    random.seed(5)
    torch.manual_seed(1)
    assert torch.equal(torch.stack([augment(image) for image in given]), one)
    assert one.shape == given.shape
    assert one.dtype == torch.uint8
    same = (one == given).flatten(1).all(1).double().mean()
    assert 0.1 < same < 0.5  # a quarter keeps its pixels, where neither change is applied


@pytest.mark.parametrize("options", [{"num_ops": 0}, {"magnitude": 11}, {"magnitude_std": -1.0}])
def test_mistakes(options: dict) -> None:
    (name,) = options
    with pytest.raises(CarltError, match=f"^{name}="):
        TimmRandAugment(**options)
