"""A short training through carlt's command, on pictures made here: ``python training.py <cuda or cpu> <run folder>``.

Ten classes of 32 x 32 pictures, kept in memory: stripes of a direction in noise. On a GPU 4,000 down to 40 training
images and ResNet-32 for 12 epochs, on a processor 200 down to 2 and ResNet-8 for 2. ``epochs.json`` in the run folder
has the seconds of each epoch's training batches.
"""

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import lightning as L
import numpy as np
import torch
from PIL import Image

import carlt

CLASSES, SIDE, FACTOR, TEST = 10, 32, 100, 20


class EpochSeconds(L.Callback):
    """Writes the seconds from each epoch's first training batch to its last."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: object, number: int) -> None:
        if number == 0:
            self.seconds.append(-now(module))

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: object, batch: object, number: int
    ) -> None:
        if number == trainer.num_training_batches - 1:
            self.seconds[-1] += now(module)
            Path(trainer.default_root_dir, "epochs.json").write_text(json.dumps(self.seconds))


def now(module: L.LightningModule) -> float:
    """Seconds, after all work of the device."""
    if module.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def pictures(folder: Path, largest: int) -> None:
    """``train/`` and ``test/`` with a folder per class; ``largest`` training images in the first."""
    draws = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    for label in range(CLASSES):
        angle = np.pi * label / CLASSES
        count = round(largest * FACTOR ** (-label / (CLASSES - 1)))
        for number in range(count + TEST):
            place = folder / ("train" if number < count else "test") / f"class {label}" / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            wave = np.sin(20 * (x * np.cos(angle) + y * np.sin(angle)) + draws.uniform(0, 2 * np.pi))
            pixels = 128 + 40 * wave[..., None] + draws.normal(0, 50, (SIDE, SIDE, 3))
            Image.fromarray(pixels.clip(0, 255).astype("uint8")).save(place, compress_level=1)


def main(device: str, folder: Path, *more: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    accelerator, network, largest, epochs = {"cuda": ("gpu", "resnet32", 4000, 12), "cpu": ("cpu", "resnet8", 200, 2)}[
        device
    ]
    with tempfile.TemporaryDirectory() as root:
        pictures(Path(root), largest)
        words = ["data=image_folder", f"data.root='{root}'", "data.image_size=32", "data.in_memory=true"]
        words += ["data.batch_size=128", f"model={network}", "reg=car", f"trainer.accelerator={accelerator}"]
        words.append("+callbacks.seconds._target_=training.EpochSeconds")
        carlt.train(*words, f"trainer.max_epochs={epochs}", *more, folder=folder)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
