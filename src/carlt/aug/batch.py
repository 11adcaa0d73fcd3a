"""What transforms of whole batches share.

Draws are made on the host and only copied to the images' device, so that they are the same on every device and nothing
waits for it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Change = Callable[[Tensor, Tensor], Tensor]
"""Selected images of a batch (n, C, H, W), and their indices in it (n,) on the CPU, to the changed images."""


class BatchTransform(ABC):
    """A transform of equal-sized images, uint8 (N, C, H, W) to the same, on the device that holds them.

    Called with one image (C, H, W) it transforms that one, as torchvision's transforms do, with torch's global draws.
    """

    @abstractmethod
    def batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The images, each changed by draws of its own."""

    def __call__(self, image: Tensor) -> Tensor:
        return self.batch(image[None], global_generator())[0]


def global_generator() -> torch.Generator:
    """A generator seeded by torch's global one."""
    return torch.Generator().manual_seed(int(torch.randint(2**62, ())))


def uniform(images: Tensor, per_image: int, generator: torch.Generator) -> Tensor:
    """Uniform numbers in [0, 1) on the CPU, (``per_image``, N): ``per_image`` successive draws for each image."""
    return torch.rand(len(images), per_image, generator=generator).T


def to_device_of(tensor: Tensor, like: Tensor) -> Tensor:
    """A small tensor of the host on the device of ``like``; the host goes on meanwhile."""
    return tensor.to(like.device, non_blocking=True)


def change_groups(images: Tensor, group: Tensor, changes: Sequence[Change | None]) -> Tensor:
    """Apply ``changes[k]`` to the images whose ``group`` (N,), on the host, is k; None leaves them as they are."""
    order = group.argsort(stable=True)
    sizes = group.bincount(minlength=len(changes)).tolist()
    # index_select copies whole images; images[order] takes ten times as long on a CPU.
    parts = images.index_select(0, to_device_of(order, images)).split(sizes)
    changed = [
        part if change is None or not len(indices) else change(part, indices)
        for change, part, indices in zip(changes, parts, order.split(sizes), strict=True)
    ]
    return torch.cat(changed).index_select(0, to_device_of(order.argsort(), images))
