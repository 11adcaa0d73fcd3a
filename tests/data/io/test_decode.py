"""Whatever an image file holds: upright RGB, or one error that names it. With and without the extra ``fast``."""

import os
import struct

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps

from carlt.data.io import decode as module
from carlt.data.io.decode import decode
from carlt.errors import CarltError


@pytest.fixture(params=["simplejpeg", "pillow"], autouse=True)
def decoder(request, monkeypatch):
    if request.param == "pillow":
        monkeypatch.setattr(module, "decode_jpeg", None)
    elif module.decode_jpeg is None:
        pytest.skip("simplejpeg, the extra carlt[fast], is not installed")


def as_tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def mean_difference(a, b):
    return (a.float() - b.float()).abs().mean()


@pytest.mark.parametrize(
    ("name", "convert", "tolerance"),
    [
        ("plain.jpg", lambda image: image, 6),
        ("plain.png", lambda image: image, 0),
        ("grey.jpg", lambda image: image.convert("L"), 60),
        ("cmyk.jpg", lambda image: image.convert("CMYK"), 6),
        ("rgba.png", lambda image: image.convert("RGBA"), 0),
        ("palette.png", lambda image: image.quantize(), 12),
        ("picture.webp", lambda image: image, 6),
        ("picture.tiff", lambda image: image, 0),
        ("frames.gif", lambda image: image, 6),
    ],
)
def test_modes(picture, tmp_path, name, convert, tolerance):
    image = picture()
    convert(image).save(tmp_path / name)
    decoded = decode(tmp_path / name)
    assert decoded.dtype == torch.uint8
    assert decoded.shape == (3, 48, 64)
    assert mean_difference(decoded, as_tensor(image)) <= tolerance


def test_jpeg_pixels_are_pillows(picture, tmp_path):
    picture().save(tmp_path / "a.jpg", quality=80)
    with Image.open(tmp_path / "a.jpg") as image:
        assert torch.equal(decode(tmp_path / "a.jpg"), as_tensor(image))


def test_sixteen_bits_keep_their_contrast(tmp_path):
    Image.fromarray(np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)).save(tmp_path / "a.png")
    decoded = decode(tmp_path / "a.png")
    assert (decoded.min(), decoded.max(), len(decoded.unique())) == (0, 255, 64)


def test_floating_point_pixels_are_refused(tmp_path):
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(CarltError, match=r"a.tif cannot be decoded .*unknown range; save it with 8 or 16 bits"):
        decode(tmp_path / "a.tif")


def test_transparent_is_white(tmp_path):
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "a.png")
    assert (decode(tmp_path / "a.png") == 255).all()


def test_a_transparent_colour_of_a_palette_is_white(tmp_path):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.paste(0, (0, 0, 2, 4))
    image.save(tmp_path / "a.png", transparency=0)
    decoded = decode(tmp_path / "a.png")
    assert (decoded[:, :, :2] == 255).all()
    assert (decoded[:, :, 2:] == torch.tensor([0, 255, 0])[:, None, None]).all()


def test_exif_turns_upright(picture, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    image = picture()
    image.save(tmp_path / "a.jpg", exif=exif)
    upright = as_tensor(image.transpose(Image.Transpose.ROTATE_270))
    assert decode(tmp_path / "a.jpg").shape == (3, 64, 48)
    assert mean_difference(decode(tmp_path / "a.jpg"), upright) < 6


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (lambda whole: b"", "the file is empty"),
        (lambda whole: b"hello world", "the file holds no image"),
        (lambda whole: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "the file holds no image"),
        (lambda whole: whole[: len(whole) // 2], "truncated|Truncated"),
        (lambda whole: whole[:40], "truncated|Truncated"),
        (None, "does not exist; restore it"),
    ],
)
def test_no_image(picture, tmp_path, content, complaint):
    path = tmp_path / "broken.jpg"
    if content:
        picture(width=256, height=256).save(path)
        path.write_bytes(content(path.read_bytes()))
    with pytest.raises(CarltError, match=f"image {path} .*({complaint})"):
        decode(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(CarltError, match=r"a.jpg cannot be decoded \(it is no regular file\)"):
        decode(tmp_path / "a.jpg")


def test_a_file_as_large_as_memory_is_not_read(tmp_path):
    with open(tmp_path / "large.jpg", "wb") as file:
        file.truncate(module.MAX_BYTES + 1)
    with pytest.raises(CarltError, match=r"large.jpg cannot be decoded \(it is larger than 683 MiB\)"):
        decode(tmp_path / "large.jpg")


@pytest.mark.parametrize("size", [(20_000, 5_000), (20_000, 20_000)])
def test_too_large(tmp_path, size):
    Image.new("1", size).save(tmp_path / "large.png")
    with pytest.raises(CarltError, match=r"large.png has more than 89,478,485 pixels; scale it down"):
        decode(tmp_path / "large.png")


def test_long_and_thin_is_fine(tmp_path):
    Image.new("1", (20_000, 40)).save(tmp_path / "thin.png")
    assert decode(tmp_path / "thin.png").shape == (3, 40, 20_000)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_as_pillow_turns_it(orientation, picture, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    for name in ("turned.png", "turned.jpg", "turned.tiff"):
        picture().save(tmp_path / name, exif=exif)
        with Image.open(tmp_path / name) as image:
            expected = as_tensor(ImageOps.exif_transpose(image))
        assert torch.equal(decode(tmp_path / name), expected), name


@pytest.mark.parametrize("tag", [ExifTags.Base.XResolution, ExifTags.Base.ResolutionUnit])
def test_a_tag_of_another_type_than_usual_spoils_nothing(tag, picture, tmp_path):
    """Pillow cannot write such EXIF again, which it does when it turns an image."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "72"  # ASCII, to become the tag
    raw = exif.tobytes()
    for order in ("<", ">"):
        make, other = (struct.pack(f"{order}H", number) for number in (ExifTags.Base.Make, tag))
        raw = raw.replace(make + struct.pack(f"{order}H", 2), other + struct.pack(f"{order}H", 2))
    picture().save(tmp_path / "odd.jpg", exif=raw)
    assert decode(tmp_path / "odd.jpg").shape == (3, 64, 48)


def test_an_orientation_in_xmp_counts_too(picture, tmp_path):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    picture().save(tmp_path / "xmp.jpg", xmp=xmp)
    assert decode(tmp_path / "xmp.jpg").shape == (3, 64, 48)


def test_integers_of_unknown_range_are_no_black_image(tmp_path):
    Image.fromarray(np.arange(256, dtype=np.int32).reshape(16, 16)).save(tmp_path / "int.tiff")
    with pytest.raises(CarltError, match=r"int\.tiff .*32-bit integers of unknown range"):
        decode(tmp_path / "int.tiff")
