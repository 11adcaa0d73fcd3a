"""Long-tail profiles: how many training images each class keeps."""

import torch
from torch import Tensor

from carlt.errors import CarltError


def exponential_profile(largest: int, num_classes: int, imbalance_factor: float) -> Tensor:
    """n_c = floor(largest * IF^(-c / (C - 1))), int64 (C,), class 0 the largest (Cui et al., CVPR 2019, section 5.1).

    ``imbalance_factor`` is n_max / n_min, at least 1. Every class keeps at least one image.
    """
    _check(largest, num_classes, imbalance_factor)
    # Python floats, not tensors: int(500 * 0.01) must round as it does in the reference lists.
    exponent = [c / max(num_classes - 1, 1) for c in range(num_classes)]
    return torch.tensor([max(1, int(largest * (1.0 / imbalance_factor) ** e)) for e in exponent])


def step_profile(largest: int, num_classes: int, imbalance_factor: float) -> Tensor:
    """The first half of the classes keeps ``largest`` images, the rest ``largest / IF`` (Buda et al., 2018)."""
    _check(largest, num_classes, imbalance_factor)
    head = num_classes // 2
    tail = max(1, int(largest / imbalance_factor + 1e-9))
    return torch.tensor([largest] * head + [tail] * (num_classes - head))


def pareto_profile(largest: int, num_classes: int, imbalance_factor: float, power: float = 6.0) -> Tensor:
    """n_c = floor(largest * (1 + x_c)^-power), x_c evenly from 0 so that the last class keeps ``largest / IF``.

    The shape of ImageNet-LT and Places-LT (Liu et al., CVPR 2019, section 4: a Pareto distribution of power 6).
    """
    _check(largest, num_classes, imbalance_factor)
    end = imbalance_factor ** (1 / power) - 1
    x = [end * c / max(num_classes - 1, 1) for c in range(num_classes)]
    # The small addend keeps the last class from rounding to one below its share.
    return torch.tensor([max(1, int(largest * (1 + x_c) ** -power + 1e-9)) for x_c in x])


PROFILES = {"exponential": exponential_profile, "step": step_profile, "pareto": pareto_profile}


def _check(largest: int, num_classes: int, imbalance_factor: float) -> None:
    if not imbalance_factor >= 1:
        raise CarltError(f"imbalance_factor is n_max / n_min and must be at least 1, not {imbalance_factor}")
    if largest < 1 or num_classes < 1:
        raise CarltError(f"a profile needs at least one class and one image, not {num_classes} and {largest}")
