"""experiments/train_bf16.py: a bfloat16 convolution by float32 instructions is that of exact sums, rounded once."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.nn import functional as F

SCRIPT = Path(__file__).parents[1] / "experiments" / "train_bf16.py"

pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="the checkout's experiments/ are not here")


@pytest.fixture
def script(load_script) -> ModuleType:
    return load_script(SCRIPT)


@pytest.mark.parametrize(
    "options", [{}, {"padding": 1}, {"stride": 2, "padding": (1, 0)}, {"groups": 2, "dilation": 2}]
)
def test_a_rounded_convolution_is_that_of_bfloat16(script, options: dict[str, Any]) -> None:
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(2, 4, 9, 9, generator=draw, requires_grad=True)
    weight = torch.randn(6, 4 // options.get("groups", 1), 3, 3, generator=draw, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = script.rounded_conv2d(images, weight, **options)
        theirs = F.conv2d(images, weight, **options)
    towards = torch.randn(out.shape, generator=draw).bfloat16()
    exact = [value.detach().bfloat16().double().requires_grad_() for value in (images, weight)]
    product = F.conv2d(*exact, **options)
    assert out.dtype == theirs.dtype == torch.bfloat16
    torch.testing.assert_close(out, product.bfloat16())
    torch.testing.assert_close(theirs, product.bfloat16())
    ours = torch.autograd.grad(out, [images, weight], towards)
    for gradient, expected in zip(ours, torch.autograd.grad(product, exact, towards.double()), strict=True):
        assert gradient.dtype == torch.float32
        assert gradient.abs().max() > 1
        torch.testing.assert_close(gradient, expected.bfloat16().float(), rtol=2**-7, atol=1e-3)


def test_without_autocast_nothing_is_rounded(script) -> None:
    images, weight = torch.randn(1, 2, 5, 5), torch.randn(3, 2, 3, 3)
    assert torch.equal(script.rounded_conv2d(images, weight), F.conv2d(images, weight))
