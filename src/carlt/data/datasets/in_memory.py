"""Decode a split of small files once, in parallel, and hold it as one array."""

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop, resize

from carlt.data.images import ArrayImages, FileImages, Split
from carlt.errors import CarltError
from carlt.runs.text import counted, get_logger

log = get_logger(__name__)


def decode_all(split: Split, side: int, threads: int = 0, exact: bool = False) -> Split:
    """``split`` with its files decoded to uint8 (N, 3, side, side).

    Pictures of another size are scaled by their shorter side, and the centre is cut out; with ``exact`` they are
    errors. A file that cannot be decoded is an error; with ``on_error="skip"`` it is counted, logged and left out.
    """
    images = split.images
    assert isinstance(images, FileImages)
    pixels = torch.empty(len(images), 3, side, side, dtype=torch.uint8)

    def fill(index: int) -> str | None:
        try:
            image = images.load(index)
            if exact and image.shape[1:] != (side, side):
                height, width = image.shape[1:]
                raise CarltError(
                    f"image {images.path(index)} has {width} x {height} pixels, not {side} x {side}: it is of another "
                    "data set"
                )
            pixels[index] = fit(image, side)
        except CarltError as error:
            return str(error)
        return None

    # Threads, not processes: decoders release Python's lock, and all write into one array.
    with ThreadPoolExecutor(max(1, threads)) as pool:
        complaints = list(pool.map(fill, range(len(images))))
    bad = [complaint for complaint in complaints if complaint]
    if not bad:
        return Split(ArrayImages(pixels), split.targets)
    if images.on_error == "raise":
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise CarltError(f"{bad[0]}{more}, or leave such images out with data.on_error=skip")
    log.warning("left out %s that cannot be used, the first: %s", counted(len(bad), "image"), bad[0])
    good = torch.tensor([complaint is None for complaint in complaints])
    return Split(ArrayImages(pixels[good]), split.targets[good])


def scaled_side(eval_view: object, image_size: int) -> int:
    """The side that ``eval_view`` scales images to before it cuts out the centre. Held in this size, they are evaluated
    as from their files."""
    ratio = getattr(eval_view, "ratio", 1.0)  # of carlt.aug.Resize; another view's may be something else
    return round(image_size * ratio) if isinstance(ratio, int | float) else image_size


def fit(image: Tensor, side: int) -> Tensor:
    """``image`` (C, H, W) scaled by its shorter side to ``side`` and cut to the centre square."""
    if image.shape[1:] == (side, side):
        return image
    short = min(image.shape[1:])
    return resize(center_crop(image, [short, short]), [side, side], antialias=True)
