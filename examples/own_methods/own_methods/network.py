"""A network of one's own."""

from torch import Tensor, nn

from carlt.ranges import Count, checked


class MLP(nn.Module):
    """One hidden layer: images (N, in_channels, image_size, image_size) to logits (N, num_classes).

    ``features`` and ``classifier`` let losses on features and second stages work with it; without them it trains, too.

    Args:
        width: of the hidden layer.
    """

    @checked
    def __init__(self, num_classes: int, in_channels: int, image_size: int, width: Count = 64):
        super().__init__()
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, width), nn.ReLU())
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))
