"""Decode one image file to upright 8-bit RGB, or raise one error that names the file."""

import io
import os
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from carlt.errors import CarltError, first_line
from carlt.runs.paths import check_file

try:  # the extra carlt[fast]
    from simplejpeg import decode_jpeg, decode_jpeg_header
except ImportError:
    decode_jpeg = None

EXTENSIONS = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif"})
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM", "GIF")
"""Whatever a file is named; Pillow would hand an EPS to Ghostscript, another program."""
REMEDY = "; replace or remove it"
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image of each EXIF orientation upright; 1 is upright."""
MAX_PIXELS = 89_478_485  # Pillow's bound against decompression bombs: 256 MB as RGB, in each worker
MAX_BYTES = 8 * MAX_PIXELS + (1 << 20)  # so many pixels uncompressed, of four colours with 16 bits, and a header

# Too many pixels are an error below, so Pillow's warning would only repeat it.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def decode(path: Path) -> Tensor:
    """The picture in ``path``, uint8 (3, H, W), turned upright by its EXIF orientation.

    Transparent pixels become white, 16-bit grey keeps its upper 8 bits, CMYK is converted. Common JPEGs go through
    simplejpeg where it is installed: the same pixels as Pillow's, decoded faster.

    Raises:
        CarltError: the file is missing, empty, no image, damaged, or larger than ``MAX_PIXELS`` or ``MAX_BYTES``.
    """
    try:
        check_file(path, "it", MAX_BYTES)  # reading a pipe would wait for ever
        data = path.read_bytes()
        pixels = _decode_fast(data)
        return torch.from_numpy(_decode_any(data) if pixels is None else pixels).permute(2, 0, 1)
    except FileNotFoundError:
        raise CarltError(
            f"image {path} does not exist; restore it, or correct the folder or list that names it"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # the warning where warnings are errors
        raise CarltError(f"image {path} has more than {MAX_PIXELS:,} pixels; scale it down") from None
    except Exception as error:  # a reader of a damaged or hostile file has errors of its own
        reason = "the file holds no image" if isinstance(error, UnidentifiedImageError) else first_line(error)
        if os.path.isfile(path) and os.path.getsize(path) == 0:
            reason = "the file is empty"
        raise CarltError(f"image {path} cannot be decoded ({reason}){REMEDY}") from None


def _decode_fast(data: bytes) -> np.ndarray | None:
    """uint8 (H, W, 3) of an ordinary JPEG; None for all other files, which Pillow decodes or refuses."""
    if decode_jpeg is None or not data.startswith(b"\xff\xd8\xff"):
        return None
    try:
        height, width, colours, _ = decode_jpeg_header(data)
        if height * width > MAX_PIXELS or colours not in ("YCbCr", "Gray"):
            return None
        # In EXIF or in XMP; found among the pixels by chance, the words only cost a look at the header.
        turned = b"Exif\0\0" in data or b"tiff:Orientation" in data
        if turned and orientation(open_image(io.BytesIO(data))) != 1:
            return None
        return decode_jpeg(data, strict=True)
    except Exception:  # Pillow then says what is wrong
        return None


def _decode_any(data: bytes) -> np.ndarray:
    """uint8 (H, W, 3) by Pillow."""
    with open_image(io.BytesIO(data)) as image:
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        image.load()  # which turns a TIFF by itself
        method = UPRIGHT.get(orientation(image))
        # Not Pillow's exif_transpose: it writes all EXIF anew, and fails for a tag of another type than usual.
        return np.array(to_rgb(image if method is None else image.transpose(method)))


def open_image(file: Path | io.BytesIO) -> Image.Image:
    """Pillow's image of a file in one of ``FORMATS``; its pixels are not read yet."""
    return Image.open(file, formats=FORMATS)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 for an upright image."""
    return image.getexif().get(ExifTags.Base.Orientation, 1)


def to_rgb(image: Image.Image) -> Image.Image:
    """``image`` of any mode as 8-bit RGB; ValueError for pixels without a known range."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range; save it with 8 or 16 bits")
    if image.mode == "I" and image.format == "TIFF":
        raise ValueError("its pixels are 32-bit integers of unknown range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        # convert() would clip every 16-bit value above 255 to white.
        return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if "A" in image.mode or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")
