"""Networks: images (N, channels, H, W), normalised, to logits (N, C)."""

from carlt.models.classifier import CosineClassifier
from carlt.models.resnet_cifar import CifarResNet
from carlt.models.small_cnn import SmallCNN
from carlt.models.timm_model import timm_model

__all__ = ["CifarResNet", "CosineClassifier", "SmallCNN", "timm_model"]
