"""Augmentation: views of an image, and mixing within a batch, beside torchvision's MixUp and CutMix."""

from carlt.aug.compose import CifarAutoAugment, Compose, Cutout
from carlt.aug.mixing import Paste, Remix, SecondBatch
from carlt.aug.randaugment import TimmRandAugment
from carlt.aug.semantic_labels import SemanticLabels
from carlt.aug.simclr import SimCLR
from carlt.aug.views import CropFlip, Resize, ResizedCropFlip

__all__ = [
    "CifarAutoAugment",
    "Compose",
    "CropFlip",
    "Cutout",
    "Paste",
    "Remix",
    "Resize",
    "ResizedCropFlip",
    "SecondBatch",
    "SemanticLabels",
    "SimCLR",
    "TimmRandAugment",
]
