"""One image file to upright 8-bit RGB, or one error that names the file; whatever the file holds."""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from carlt.errors import CarltError

try:  # the extra carlt[fast]
    from simplejpeg import decode_jpeg
except ImportError:
    decode_jpeg = None

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif"})
MAX_PIXELS = 89_478_485  # Pillow's bound against decompression bombs: 256 MB as RGB, in each worker

# Too many pixels are an error of ours, so Pillow's warning of them would only repeat it.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def decode(path: Path) -> Tensor:
    """The picture in ``path``, uint8 (3, H, W), turned upright by its EXIF orientation.

    Transparent pixels become white, 16-bit grey keeps its upper 8 bits, CMYK is converted. Common JPEGs go through
    simplejpeg where it is installed: the same pixels as Pillow's, sooner in a tensor.

    Raises:
        CarltError: the file is missing, empty, no image, damaged, or larger than ``MAX_PIXELS``.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise CarltError(_too_large(path, f"{image.width} x {image.height} pixels"))
            upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
            pixels = None
            if image.format == "JPEG" and image.mode in ("RGB", "L") and upright:
                pixels = _decode_fast(path)
            if pixels is None:
                pixels = np.array(to_rgb(ImageOps.exif_transpose(image)))
            return torch.from_numpy(pixels).permute(2, 0, 1)
    except CarltError:
        raise
    except FileNotFoundError:
        raise CarltError(f"image {path} is listed but missing; restore it, or check data.root") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # the warning where warnings are errors
        raise CarltError(_too_large(path, "too many pixels")) from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        reason = "the file is empty" if path.stat().st_size == 0 else str(error).replace(f" {str(path)!r}", "")
        raise CarltError(f"image {path} cannot be decoded ({reason}); replace or remove it") from None


def to_rgb(image: Image.Image) -> Image.Image:
    """``image`` as 8-bit RGB, of whatever mode it is."""
    if image.mode.startswith("I"):
        # convert() would clip every 16-bit value above 255 to white.
        return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if "A" in image.mode or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _decode_fast(path: Path) -> np.ndarray | None:
    """uint8 (H, W, 3), or None where Pillow is to judge, so that the verdict does not depend on what is installed."""
    if decode_jpeg is None:
        return None
    try:
        return decode_jpeg(path.read_bytes(), strict=True)
    except ValueError:
        return None


def _too_large(path: Path, size: str) -> str:
    return f"image {path} has {size}, the limit is {MAX_PIXELS:,} pixels in all; scale it down"
