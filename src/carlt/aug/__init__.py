"""Augmentation: views of an image (``views``), and mixing within a batch (torchvision's MixUp and CutMix)."""

from carlt.aug.views import CropFlip, Resize, ResizedCropFlip

__all__ = ["CropFlip", "Resize", "ResizedCropFlip"]
