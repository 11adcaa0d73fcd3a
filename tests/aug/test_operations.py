"""The operations on batches are Pillow's and torchvision's of each image."""

import pytest
import torch
from PIL import Image
from timm.data import auto_augment as timm
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from carlt.aug.operations import BICUBIC, BILINEAR, NEAREST, OPERATIONS, Operations, apply, kinds

FILL = (124, 116, 104)
FACTORS = [0.1, 0.5, 0.9, 1.3, 1.9]
LEVELS = {
    "Identity": [0.0] * 5, "Brightness": FACTORS, "Posterize": [8.0, 6, 4, 2, 1], "Solarize": [256.0, 200, 100, 50, 0],
    "SolarizeAdd": [0.0, 10, 50, 100, 110], "Invert": [0.0] * 5, "Contrast": FACTORS, "AutoContrast": [0.0] * 5,
    "Equalize": [0.0] * 5, "Color": FACTORS, "Sharpness": FACTORS, "ShearX": [0.3, -0.3, 0.1, -0.05, 0],
    "ShearY": [0.3, -0.3, 0.1, -0.05, 0], "TranslateX": [3.0, -5, 10, 0, 1], "TranslateY": [3.0, -5, 10, 0, 1],
    "Rotate": [30.0, -30, 9, -4, 0],
}  # fmt: skip
PILLOW = {
    "Brightness": timm.brightness, "Posterize": timm.posterize, "Solarize": timm.solarize,
    "SolarizeAdd": timm.solarize_add, "Invert": timm.invert, "Contrast": timm.contrast,
    "AutoContrast": timm.auto_contrast, "Equalize": timm.equalize, "Color": timm.color, "Sharpness": timm.sharpness,
    "ShearX": timm.shear_x, "ShearY": timm.shear_y, "TranslateX": timm.translate_x_abs,
    "TranslateY": timm.translate_y_abs, "Rotate": timm.rotate,
}  # fmt: skip
TURNS = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Smooth images of five brightnesses; the last has one value only in a channel."""
    low = torch.randint(0, 256, (5, 3, 5, 5), generator=torch.Generator().manual_seed(0)).float()
    smooth = torch.nn.functional.interpolate(low, size=(24, 30), mode="bicubic").clamp(0, 255)
    images = (smooth * torch.linspace(0.4, 1, 5).view(-1, 1, 1, 1)).to(torch.uint8)
    images[-1, 1] = 77
    return images


def ours(name: str, images: Tensor, levels: list[float], taps: int, fill: tuple[int, ...] = FILL) -> Tensor:
    n = len(images)
    return apply(images, Operations(kinds(name).expand(n), torch.tensor(levels[:n]), torch.full((n,), taps)), fill)


@pytest.mark.parametrize("name", PILLOW)
def test_as_pillow(name: str, images: Tensor) -> None:
    """Exactly, but for rounding where Pillow cuts off: after interpolation, and of floats in AutoContrast."""
    cases = [(NEAREST, 0), (BILINEAR, 2), (BICUBIC, 3)] if name in TURNS else [(NEAREST, 0)]
    shift = 0.3 if name.startswith("Translate") else 0
    for taps, mode in cases:
        levels = [level + shift * (taps > 1) for level in LEVELS[name]]
        expected = []
        for image, level in zip(images, levels, strict=True):
            value = (int(level),) if name[:5] in ("Poste", "Solar") else (-level if shift else level,)
            arguments = () if name in ("Invert", "AutoContrast", "Equalize") else value
            picture = tv.to_pil_image(image)
            changed = PILLOW[name](picture, *arguments, resample=Image.Resampling(mode), fillcolor=FILL)
            expected.append(tv.pil_to_tensor(changed))
        difference = (ours(name, images, levels, taps).int() - torch.stack(expected).int()).abs()
        assert difference.max() <= (taps > 1 or name == "AutoContrast"), taps


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "SolarizeAdd"])
def test_as_torchvision(name: str, images: Tensor) -> None:
    """To one level, but for a pixel in a thousand, whose place lies between two pixels."""
    policy, levels = v2.RandAugment(), LEVELS[name]
    relative = {"Solarize": lambda level: min(level / 255, 1.0)}  # torchvision has no 256, which inverts nothing
    relative |= dict.fromkeys(("Brightness", "Contrast", "Color", "Sharpness"), lambda level: level - 1)
    expected = [
        policy._apply_image_or_video_transform(
            image, name, relative.get(name, float)(level), interpolation=policy.interpolation, fill=policy._fill
        )
        for image, level in zip(images, levels, strict=True)
    ]
    difference = (ours(name, images, levels, NEAREST, (0, 0, 0)).int() - torch.stack(expected).int()).abs()
    assert (difference > 1).double().mean() < 1e-3


@pytest.mark.parametrize("name", OPERATIONS)
def test_grey_images_are_those_of_equal_channels(name: str, images: Tensor) -> None:
    grey = images[:, :1]
    levels, taps = LEVELS[name], BICUBIC
    expected = ours(name, grey.expand(-1, 3, -1, -1), levels, taps, (9, 9, 9))
    assert torch.equal(ours(name, grey, levels, taps, (9, 9, 9)), expected[:, :1])


@pytest.mark.parametrize("name", OPERATIONS)
def test_images_of_one_pixel_and_none_at_all(name: str) -> None:
    for shape in ((5, 3, 1, 1), (5, 1, 2, 1), (0, 3, 8, 8)):
        images = torch.full(shape, 200, dtype=torch.uint8)
        assert ours(name, images, LEVELS[name], BICUBIC).shape == shape


def test_each_image_has_its_own_operation(images: Tensor) -> None:
    every = images.repeat(4, 1, 1, 1)[: len(OPERATIONS)]
    level = torch.tensor([LEVELS[name][1] for name in OPERATIONS])
    taps = torch.tensor([NEAREST, BILINEAR, BICUBIC]).repeat(6)[: len(OPERATIONS)]
    order = torch.randperm(len(OPERATIONS), generator=torch.Generator().manual_seed(0))
    mixed = apply(every[order], Operations(order, level[order], taps[order]), FILL)
    for image, kind in zip(mixed, order.tolist(), strict=True):
        alone = ours(OPERATIONS[kind], every[kind : kind + 1], [float(level[kind])], int(taps[kind]))[0]
        assert torch.equal(image, alone), OPERATIONS[kind]
