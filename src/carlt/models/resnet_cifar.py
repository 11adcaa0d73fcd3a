"""The CIFAR ResNets (He et al., CVPR 2016, section 4.2): three stages of 16, 32 and 64 channels, 6n + 2 layers."""

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from carlt.errors import CarltError
from carlt.models.classifier import make_classifier
from carlt.models.experts import Branches, expert_channels
from carlt.models.weights import load_weights
from carlt.ranges import Count, Positive, PositiveShare, checked


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions around a shortcut without parameters (option A: subsample, pad channels with zeros)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.new_channels = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        if self.stride > 1 or self.new_channels:
            before = self.new_channels // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.new_channels - before))
        return F.relu(out + x, inplace=True)


class CifarResNet(nn.Module):
    """ResNet-``depth`` for 32 x 32 images: images (N, in_channels, H, W) to logits (N, C).

    Args:
        depth: 6n + 2; 8, 20 and 32 are usual.
        width: channels of the first stage; the paper's is 16.
        weights: a local file to start from (``carlt.models.weights``).
        cosine_scale: makes the classifier a cosine one with this scale.
        experts: number of copies of the last two stages and the classifier; the logits are their mean.
        expert_width: share of the channels that several experts' own stages keep, in (0, 1]; 0.75 in RIDE's code.
    """

    native_size: ClassVar[int] = 32
    """Side in pixels of the images that the network is made for."""

    @checked
    def __init__(
        self,
        num_classes: int,
        depth: int,
        in_channels: int = 3,
        width: Count = 16,
        weights: str | None = None,
        cosine_scale: Positive | None = None,
        experts: Count = 1,
        expert_width: PositiveShare = 1.0,
    ):
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise CarltError(f"model.depth of a CIFAR ResNet is 6n + 2 (8, 14, 20, 32, ...), not {depth}; choose one")
        self.conv1 = nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        blocks = (depth - 2) // 6
        first, second = width, 2 * expert_channels(width, experts, expert_width)
        third = 2 * second
        self.stages = nn.Sequential(*_stage(first, first, blocks, 1))
        if experts > 1:
            private = [_stage(first, second, blocks, 2) + _stage(second, third, blocks, 2) for _ in range(experts)]
            self.stages.append(Branches(nn.Sequential(*stages) for stages in private))
        else:
            self.stages.extend(_stage(first, second, blocks, 2) + _stage(second, third, blocks, 2))
        self.classifier = make_classifier(third, num_classes, cosine_scale, experts)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
        load_weights(self, weights)

    def features(self, images: Tensor) -> Tensor:
        """Images to the classifier's input (N, D): 4 * width channels, or those of all experts."""
        return self.stages(F.relu(self.bn1(self.conv1(images)), inplace=True)).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """The layers in order, by their parameters' names, as timm's networks tell them (``optim.layer_decay``)."""
        return {"stem": r"^conv1|^bn1", "blocks": r"^stages\.(\d+)"}


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> list[nn.Module]:
    return [BasicBlock(inputs, outputs, stride), *(BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1))]
