"""The view of contrastive learning."""

import torch
from torch import Tensor

from carlt.aug import colour
from carlt.aug.views import ResizedCropFlip, global_generator
from carlt.ranges import NonNegative, PositiveShare, Share, checked

SIGMA = (0.1, 2.0)  # pixels


class SimCLR:
    """Resized crop, mirror, colour jitter, sometimes grey, sometimes blurred (Chen et al., ICML 2020, appendix A).

    Args:
        image_size: side of the view in pixels.
        scale: of the crop's area.
        jitter: ranges of brightness, contrast, saturation (factors 1 +- jitter) and hue (+- a share of the circle).
        jitter_probability, grey_probability, blur_probability: of each change, per image.
    """

    @checked
    def __init__(
        self,
        image_size: int,
        scale: tuple[PositiveShare, PositiveShare] = (0.2, 1.0),
        jitter: tuple[NonNegative, NonNegative, NonNegative, NonNegative] = (0.4, 0.4, 0.4, 0.1),
        jitter_probability: Share = 0.8,
        grey_probability: Share = 0.2,
        blur_probability: Share = 0.5,
    ):
        self.crop = ResizedCropFlip(image_size, scale=scale)
        self.jitter, self.jitter_probability = jitter, jitter_probability
        self.grey_probability, self.blur_probability = grey_probability, blur_probability
        self.radius = min(4, image_size - 1)  # two standard deviations of the widest blur

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return self._colour(self.crop(images, generator), generator)

    def image(self, image: Tensor) -> Tensor:
        return self._colour(self.crop.image(image)[None], global_generator())[0]

    def _colour(self, crops: Tensor, generator: torch.Generator) -> Tensor:
        """uint8 (N, C, H, W) to the same; the order of the four jitters is drawn once for all of them."""
        n, device = len(crops), crops.device
        images = crops.float() / 255

        def draw_uniform(low: float, high: float) -> Tensor:
            return torch.empty(n).uniform_(low, high, generator=generator).to(device)

        def chosen(probability: float) -> Tensor:
            return (torch.rand(n, generator=generator) < probability).to(device)

        kept = ~chosen(self.jitter_probability)
        changes = (colour.brightness, colour.contrast, colour.saturation, colour.hue)
        for index in torch.randperm(4, generator=generator).tolist():
            middle, width = (0.0 if changes[index] is colour.hue else 1.0), self.jitter[index]
            factor = draw_uniform(max(middle - width, 0) if middle else -width, middle + width)
            images = changes[index](images, factor.masked_fill(kept, middle))
        images = torch.where(chosen(self.grey_probability)[:, None, None, None], colour.grey(images), images)
        blurred, sigma = chosen(self.blur_probability), draw_uniform(*SIGMA)
        images[blurred] = colour.blur(images[blurred], sigma[blurred], self.radius)
        return (images * 255).round().clamp(0, 255).to(torch.uint8)
