"""A sheet of pictures: the views of some training images, and the results of mixing."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from carlt.data import LongTailDataModule
from carlt.data.batch import Batch
from carlt.errors import CarltError
from carlt.runs.text import printable
from carlt.training.module import LongTailClassifier

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROWS = 6
TRIES = 64  # batches to search for a mixed one


def draw(data: LongTailDataModule, module: LongTailClassifier, path: Path) -> None:
    """Draw a PNG at ``path``: one row per image with its views, its partner and the mixed image with its soft label.

    Raises:
        CarltError: no batch of ``TRIES`` is mixed though ``aug.paste`` is set.
    """
    from matplotlib.figure import Figure

    batch = _mixed_batch(data)
    torch.manual_seed(module.seed)
    images, targets = module.mixed(batch)
    columns = {"view": batch.images}
    if batch.contrast is not None:
        columns |= {f"contrast {k + 1}": views for k, views in enumerate(batch.contrast)}
    if batch.foreground is not None:
        columns["patch from"] = batch.foreground[0]
    names = [[_short(data.class_names[label]) for label in batch.labels], *[[""] * len(images)] * (len(columns) - 1)]
    if batch.foreground is not None:
        names[-1] = [_short(data.class_names[label]) for label in batch.foreground[1]]
    if targets.is_floating_point():
        columns["mixed"] = (images * module.std + module.mean).mul(255).round().clamp(0, 255).to(torch.uint8)
        names.append([_soft_label(row, data.class_names) for row in targets])
    rows = min(ROWS, len(images))
    figure = Figure(figsize=(1.5 * len(columns) + 0.6, 1.75 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, len(columns), squeeze=False)
    for column, (title, pictures) in enumerate(columns.items()):
        axes[0, column].set_title(title, fontsize=10, pad=10)
        for row in range(rows):
            _show(axes[row, column], pictures[row], names[column][row])
    figure.suptitle(f"{data.name}, {data.image_size} px: training views", fontsize=11)
    figure.savefig(path, dpi=110)


def _mixed_batch(data: LongTailDataModule) -> Batch:
    """The first batch; with a foreground, the first that is mixed."""
    loader, foreground = data.train_dataloader(), data.views.foreground
    first = 0 if foreground is None else foreground.first
    tried = 0
    for epoch in range(first, first + TRIES):
        loader.set_epoch(epoch)
        for batch in loader:
            if foreground is None or batch.foreground is not None:
                return batch
            tried += 1
            if tried == TRIES:
                raise CarltError(f"aug.paste mixed none of {TRIES} batches: is aug.paste.probability too small?")
    raise CarltError(f"{data.name} serves no training batch")


def _soft_label(row: Tensor, class_names: list[str]) -> str:
    """The classes that share a label, largest first: ``0.63 cat`` and ``0.37 dog``, one per line."""
    shares, classes = row.sort(descending=True)
    kept = [(float(share), int(label)) for share, label in zip(shares, classes, strict=True) if share > 0.005][:3]
    return "\n".join(f"{share:.2f} {_short(class_names[label])}" for share, label in kept)


def _short(name: str) -> str:
    """At most 18 letters, without the WordNet number that ImageNet's names begin with."""
    name = printable(re.sub(r"^n\d{8} ", "", name)).replace("$", r"\$")  # $ begins a formula in matplotlib
    return name if len(name) <= 18 else name[:17] + "…"


def _show(axes: "Axes", picture: Tensor, caption: str) -> None:
    axes.imshow(picture.permute(1, 2, 0).squeeze(-1).cpu().numpy(), cmap="gray", vmin=0, vmax=255)
    axes.set_xlabel(caption, fontsize=8)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
