"""Augmentation: views of an image, and mixing within a batch, beside torchvision's MixUp and CutMix."""

from carlt.aug.batch import BatchTransform
from carlt.aug.compose import Compose
from carlt.aug.erasing import Cutout, RandomErasing
from carlt.aug.mixing import Paste, Remix, SecondBatch
from carlt.aug.randaugment import CifarAutoAugment, RandAugment, TimmRandAugment
from carlt.aug.semantic_labels import SemanticLabels
from carlt.aug.simclr import SimCLR
from carlt.aug.views import CropFlip, Resize, ResizedCropFlip

__all__ = [
    "BatchTransform",
    "CifarAutoAugment",
    "Compose",
    "CropFlip",
    "Cutout",
    "Paste",
    "RandAugment",
    "RandomErasing",
    "Remix",
    "Resize",
    "ResizedCropFlip",
    "SecondBatch",
    "SemanticLabels",
    "SimCLR",
    "TimmRandAugment",
]
