"""Views work on the device that holds the images, in whole batches, with the host's draws."""

import warnings

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from carlt import aug
from carlt.aug import Compose, CropFlip, Resize, ResizedCropFlip, SimCLR

TRANSFORMS = [aug.RandAugment(), aug.CifarAutoAugment(), aug.TimmRandAugment(), aug.Cutout(), aug.RandomErasing()]
VIEWS = {
    "Resize": Resize(24, 1.25),
    "CropFlip": CropFlip(24),
    "ResizedCropFlip": ResizedCropFlip(24, jitter=0.4),
    "SimCLR": SimCLR(24),
    **{type(transform).__name__: Compose(CropFlip(24), [transform]) for transform in TRANSFORMS},
}
every_view = pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)


class Operators(TorchDispatchMode):
    """Counts the operators on the images' device, and the copies that wait: to the host, or to the device without
    ``non_blocking``."""

    def __init__(self):
        super().__init__()
        self.on_device = self.waits = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        given = [x for x in args if isinstance(x, torch.Tensor)]
        on_device = any(x.device.type == "meta" for x in given)
        self.on_device += on_device
        if isinstance(result, torch.Tensor) and given and result.device != given[0].device:
            self.waits += on_device or not (kwargs or {}).get("non_blocking")
        return result


def images(n=64, side=32):
    return torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=generator(0))


def generator(seed):
    return torch.Generator().manual_seed(seed)


@every_view
def test_nothing_is_asked_back_from_the_device(view):
    """On torch's device without numbers, where every question for one is an error."""
    given = images().to("meta")
    with Operators() as operators:
        seen = view(given, generator(1))
    assert seen.shape == (64, 3, 24, 24)
    assert seen.device.type == "meta"
    assert operators.waits == 0


@every_view
def test_a_large_batch_takes_as_many_operators_as_a_small_one(view):
    counts = []
    for n in (512, 2048):
        with Operators() as operators:
            view(images(n).to("meta"), generator(1))
        counts.append(operators.on_device)
    assert counts[0] == counts[1] < 1000


@every_view
def test_the_same_draws_wherever_the_images_are(view):
    states = []
    for device in ("cpu", "meta"):
        draws = generator(1)
        view(images().to(device), draws)
        states.append(draws.get_state())
    assert torch.equal(*states)


@pytest.mark.gpu
@every_view
def test_a_gpu_shows_the_same_images(view):
    """Of the same draws: to two levels of 255 where floats are rounded. Where a view resizes whole batches of bytes,
    torchvision rounds once on a GPU and twice on a CPU; so the images have the size of the view, but for ``Resize``."""
    given = images(side=24)
    on_cpu, on_gpu = view(given, generator(1)), view(given.cuda(), generator(1)).cpu()
    difference = (on_cpu.int() - on_gpu.int()).abs()
    assert difference.float().mean() < (0.3 if isinstance(view, Resize) else 0.1)
    assert (difference > 2).float().mean() < 1e-3


@pytest.mark.gpu
@every_view
def test_a_gpu_is_not_waited_for(view):
    given = images().cuda()
    view(given, generator(0))
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter("always")
            view(given, generator(1))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert not waits, [str(wait.message) for wait in waits]
