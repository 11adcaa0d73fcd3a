"""RandAugment in timm's form, for recipes that were made with it."""

import random
from typing import Annotated

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from carlt.ranges import Count, NonNegative, Range, checked


class TimmRandAugment:
    """timm's RandAugment: ``num_ops`` of 15 changes, each with probability 1/2, uint8 (C, H, W) to the same.

    The magnitude of a change is normally distributed around ``magnitude`` of 10. At 10 images are turned by up to 30
    degrees and shifted by up to 45 % of their side; new borders have ImageNet's mean colour. BCL's and ConCutMix's
    recipes for ImageNet-LT and iNaturalist have the defaults. torchvision's RandAugment is weaker at its own defaults:
    9 degrees, and it always applies its changes (Cubuk et al., NeurIPS 2020).

    Args:
        num_ops: changes per image, at least 1.
        magnitude: in [0, 10].
        magnitude_std: standard deviation of the magnitude, at least 0.
    """

    @checked
    def __init__(
        self, num_ops: Count = 2, magnitude: Annotated[int, Range(0, 10)] = 10, magnitude_std: NonNegative = 0.5
    ):
        from timm.data import auto_augment  # imported here, because it takes a second to import

        self.transform = auto_augment.rand_augment_transform(
            f"rand-n{num_ops}-m{magnitude}-mstd{magnitude_std}", {"img_mean": (124, 116, 104)}
        )

    def __call__(self, image: Tensor) -> Tensor:
        # timm draws from Python's and NumPy's generators: both follow torch's for this image.
        seed = int(torch.randint(2**32, ()))
        states = random.getstate(), np.random.get_state()  # noqa: NPY002
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            changed = self.transform(F.to_pil_image(image.expand(3, -1, -1)))
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
        return F.pil_to_tensor(changed)[: len(image)]
