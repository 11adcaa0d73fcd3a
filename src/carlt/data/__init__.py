"""Long-tailed image sets: reading, class counts and resumable batches. Augmentation and logging are elsewhere."""

from carlt.data.datasets.cifar import CIFAR10LT, CIFAR100LT
from carlt.data.datasets.digits import DigitsLT
from carlt.data.datasets.image_folder import ImageFolder
from carlt.data.datasets.imagenet import ImageNetLT
from carlt.data.datasets.inaturalist import INaturalist2018
from carlt.data.datasets.places import PlacesLT
from carlt.data.datasets.tiny_imagenet import TinyImageNetLT
from carlt.data.images import ArrayImages, FileImages, Split, Splits
from carlt.data.module import LongTailDataModule

__all__ = [
    "CIFAR10LT",
    "CIFAR100LT",
    "ArrayImages",
    "DigitsLT",
    "FileImages",
    "INaturalist2018",
    "ImageFolder",
    "ImageNetLT",
    "LongTailDataModule",
    "PlacesLT",
    "Split",
    "Splits",
    "TinyImageNetLT",
]
