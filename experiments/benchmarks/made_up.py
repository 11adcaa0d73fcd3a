"""Images for a machine without any: their content does not change how fast they load."""

import pickle
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 100


def cifar100(root: Path) -> None:
    """``cifar-100-python`` in ``root``: noise in CIFAR-100's layout, 500 training and 100 test images of each class."""
    folder, draws = root / "cifar-100-python", np.random.default_rng(0)
    folder.mkdir(parents=True)
    for name, each in (("train", 500), ("test", 100)):
        pixels = draws.integers(0, 256, (CLASSES * each, 3072), dtype=np.uint8)
        labels = draws.permutation(np.arange(CLASSES).repeat(each)).tolist()
        (folder / name).write_bytes(pickle.dumps({b"data": pixels, b"fine_labels": labels}))
    names = [b"class %d" % number for number in range(CLASSES)]
    (folder / "meta").write_bytes(pickle.dumps({b"fine_label_names": names}))


def photograph(draws: np.random.Generator) -> Image.Image:
    """500 x 375 smooth colours with a little noise, which compress about as photographs do."""
    coarse = Image.fromarray(draws.integers(0, 256, (47, 63, 3), dtype=np.uint8)).resize((500, 375), Image.BICUBIC)
    noisy = np.asarray(coarse, dtype=np.float32) + draws.normal(0, 6, (375, 500, 1))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
