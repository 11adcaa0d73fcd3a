"""Views: one look at an image, uint8 in and uint8 out, so that batches travel small and are normalised on the device.

Each view has two forms with the same distribution: called on a batch of equal-sized images it works on tensors and
draws from the generator it is given; ``image`` takes one decoded picture (C, H, W) in a worker and draws from torch's global
generator.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2


class Resize:
    """The whole image at ``image_size``: scale the shorter side to ``image_size * ratio``, then cut out the centre."""

    def __init__(self, image_size: int, ratio: float = 1.0):
        self.transform = v2.Compose([v2.Resize(round(image_size * ratio), antialias=True), v2.CenterCrop(image_size)])

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return self.transform(images)

    def image(self, image: Tensor) -> Tensor:
        return self.transform(image)


class CropFlip:
    """Pad with zeros, crop back at a random place, mirror half of them: the CIFAR standard (He et al., 2016, 4.2)."""

    def __init__(self, image_size: int, padding: int = 4, flip: bool = True):
        self.resize, self.padding, self.flip = Resize(image_size), padding, flip

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        images = self.resize(images, generator)
        n, channels, height, width = images.shape
        offsets = torch.randint(0, 2 * self.padding + 1, (2, n), generator=generator).to(images.device)
        rows = offsets[0, :, None] + torch.arange(height, device=images.device)
        columns = offsets[1, :, None] + torch.arange(width, device=images.device)
        if self.flip:
            mirrored = (torch.rand(n, generator=generator) < 0.5).to(images.device)
            columns = torch.where(mirrored[:, None], columns.flip(1), columns)
        padded = F.pad(images, (self.padding,) * 4)
        # One gather for the whole batch: the place of every output pixel in its flattened padded image.
        place = (rows[:, :, None] * padded.shape[3] + columns[:, None, :]).flatten(1)
        return padded.flatten(2).gather(2, place[:, None].expand(-1, channels, -1)).view_as(images)

    def image(self, image: Tensor) -> Tensor:
        return self(self.resize.image(image)[None], _global_generator())[0]


class ResizedCropFlip:
    """A random crop of ``scale`` of the area at an aspect ``ratio``, resized, mirrored, and its colours jittered.

    The ImageNet standard (Szegedy et al., CVPR 2015, section 6). ``jitter`` is brightness, contrast and saturation.
    """

    def __init__(
        self,
        image_size: int,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip: bool = True,
        jitter: float = 0.0,
    ):
        steps: list[v2.Transform] = [v2.RandomResizedCrop(image_size, scale=scale, ratio=ratio, antialias=True)]
        if flip:
            steps.append(v2.RandomHorizontalFlip())
        if jitter:
            steps.append(v2.ColorJitter(jitter, jitter, jitter))
        self.transform = v2.Compose(steps)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            return torch.stack([self.transform(image) for image in images])

    def image(self, image: Tensor) -> Tensor:
        return self.transform(image)


def _global_generator() -> torch.Generator:
    """A generator seeded by torch's global one."""
    return torch.Generator().manual_seed(int(torch.randint(2**62, ())))
