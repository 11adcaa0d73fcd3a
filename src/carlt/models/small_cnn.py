"""A small CNN for tiny images: the network of ``data=digits_lt``."""

from typing import ClassVar

from torch import Tensor, nn

from carlt.models.classifier import make_classifier
from carlt.models.experts import Branches, expert_channels
from carlt.models.weights import load_weights
from carlt.ranges import Count, Positive, PositiveShare, checked


class SmallCNN(nn.Module):
    """Four convolutions and a linear classifier: images (N, in_channels, H, W), H and W >= 2, to logits (N, C).

    Args:
        width: channels of the first two convolutions; the last two have twice as many.
        weights: a local file to start from (``carlt.models.weights``).
        cosine_scale: makes the classifier a cosine one with this scale.
        experts: number of copies of the last two convolutions and the classifier; the logits are their mean.
        expert_width: share of the channels that several experts' own convolutions keep, in (0, 1].
    """

    native_size: ClassVar[int] = 32
    """Side in pixels of the images that the network is made for."""

    @checked
    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        width: Count = 32,
        weights: str | None = None,
        cosine_scale: Positive | None = None,
        experts: Count = 1,
        expert_width: PositiveShare = 1.0,
    ):
        super().__init__()
        late = expert_channels(2 * width, experts, expert_width)
        self.features = nn.Sequential(
            _block(in_channels, width),
            _block(width, width),
            nn.MaxPool2d(2),
            *(
                _late(width, late)
                if experts == 1
                else [Branches(nn.Sequential(*_late(width, late)) for _ in range(experts))]
            ),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.classifier = make_classifier(late, num_classes, cosine_scale, experts)
        load_weights(self, weights)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """The layers in order, by their parameters' names, as timm's networks tell them (``optim.layer_decay``)."""
        return {"features": r"^features\.(\d+)"}


def _late(inputs: int, outputs: int) -> list[nn.Module]:
    return [_block(inputs, outputs), _block(outputs, outputs)]


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )
