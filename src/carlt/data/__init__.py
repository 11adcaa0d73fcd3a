"""Long-tailed image sets: they read bytes, know counts and serve resumable batches; they never augment or log."""

from carlt.data.base import LongTailDataModule
from carlt.data.cifar import CIFAR10LT, CIFAR100LT
from carlt.data.digits import DigitsLT
from carlt.data.image_folder import ImageFolder
from carlt.data.imagenet import ImageNetLT
from carlt.data.inaturalist import INaturalist2018
from carlt.data.places import PlacesLT
from carlt.data.tiny_imagenet import TinyImageNetLT

__all__ = [
    "CIFAR10LT",
    "CIFAR100LT",
    "DigitsLT",
    "INaturalist2018",
    "ImageFolder",
    "ImageNetLT",
    "LongTailDataModule",
    "PlacesLT",
    "TinyImageNetLT",
]
