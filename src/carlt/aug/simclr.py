"""The view of contrastive learning."""

import torch
from torch import Tensor

from carlt.aug import colour
from carlt.aug.batch import change_groups, to_device_of, uniform
from carlt.aug.views import ResizedCropFlip, View
from carlt.ranges import Count, NonNegative, PositiveShare, Share, checked

SIGMA = (0.1, 2.0)  # pixels


class SimCLR(View):
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
        image_size: Count,
        scale: tuple[PositiveShare, PositiveShare] = (0.2, 1.0),
        jitter: tuple[NonNegative, NonNegative, NonNegative, NonNegative] = (0.4, 0.4, 0.4, 0.1),
        jitter_probability: Share = 0.8,
        grey_probability: Share = 0.2,
        blur_probability: Share = 0.5,
    ):
        self.resized, self.jitter = ResizedCropFlip(image_size, scale=scale), colour.Jitter(*jitter, jitter_probability)
        self.grey_probability, self.blur_probability = grey_probability, blur_probability
        self.radius = min(4, image_size - 1)  # two standard deviations of the widest blur

    def crop(self, image: Tensor) -> Tensor:
        return self.resized.crop(image)

    def crop_batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return self.resized.crop_batch(images, generator)

    def finish(self, images: Tensor, generator: torch.Generator) -> Tensor:
        images = self.jitter(self.resized.finish(images, generator).float() / 255, generator)
        grey, blurred, width = uniform(images, 3, generator)
        is_grey = to_device_of(grey < self.grey_probability, images)[:, None, None, None]
        images = torch.where(is_grey, colour.grey(images), images)
        sigma = SIGMA[0] + (SIGMA[1] - SIGMA[0]) * width

        def blur(part: Tensor, indices: Tensor) -> Tensor:
            return colour.blur(part, to_device_of(sigma[indices], part), self.radius)

        return colour.to_bytes(change_groups(images, (blurred < self.blur_probability).long(), [None, blur]))
