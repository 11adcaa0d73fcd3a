"""A sheet of pictures: the views of some training images, and the results of mixing."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from carlt.aug import Compose
from carlt.data import LongTailDataModule
from carlt.data.batch import Batch
from carlt.data.images import ArrayImages, Images
from carlt.errors import CarltError
from carlt.reporting.plots import without_math
from carlt.runs.text import printable
from carlt.training.module import LongTailClassifier, Mix

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROWS = 6
PROBE = 16  # pixels a side
TRIES = 64  # batches to search for a mixed one


@without_math
def draw(data: LongTailDataModule, module: LongTailClassifier, path: Path) -> None:
    """Draw a PNG at ``path``: one row per image with the original, its views, its partner and the mixed image with its
    soft label.

    Raises:
        CarltError: no batch of ``TRIES`` is mixed though ``aug.paste`` is set.
    """
    from matplotlib.figure import Figure

    batch, indices = _mixed_batch(data)
    torch.manual_seed(module.seed)
    images, targets = module.mixed(batch)
    own = [_short(data.class_names[label]) for label in batch.labels]
    none = [""] * len(own)
    columns: list[tuple[str, Sequence[Tensor] | Tensor, list[str]]] = [
        ("original", [_original(data.splits.train.images, int(index)) for index in indices[:ROWS]], own),
        (_name(data.views.view), batch.images, none),
    ]
    if batch.contrast is not None:
        name = _name(data.views.contrast)
        columns += [(f"contrast {k + 1}\n{name}", views, none) for k, views in enumerate(batch.contrast)]
    if batch.foreground is not None:
        pasted, labels = batch.foreground
        columns.append(("partner", pasted, [_short(data.class_names[label]) for label in labels]))
    elif module.mix is not None:
        found = partners(module.mix, len(own), module.seed)
        names = [own[k] if k != i else "(unchanged)" for i, k in enumerate(found)]
        columns.append(("partner", batch.images[found], names))
    if targets.is_floating_point():
        mixed = (images * module.std + module.mean).mul(255).round().clamp(0, 255).to(torch.uint8)
        name = _name(module.mix if batch.foreground is None else data.views.foreground)
        columns.append((f"mixed\n{name}", mixed, [_soft_label(row, data.class_names) for row in targets]))
    rows = min(ROWS, len(images))
    figure = Figure(figsize=(1.5 * len(columns) + 0.6, 1.75 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, len(columns), squeeze=False)
    for column, (title, pictures, captions) in enumerate(columns):
        axes[0, column].set_title(title, fontsize=9, pad=8)
        for row in range(rows):
            _show(axes[row, column], pictures[row], captions[row])
    figure.suptitle(f"{data.name}, {data.image_size} px: training views", fontsize=11)
    figure.savefig(path, dpi=110)


def partners(mix: Mix, size: int, seed: int) -> list[int]:
    """The image that ``mix`` mixes into each of ``size`` images under ``seed``; its own place where there is none.

    Image i is all ones in channel i here, so that the channels of a result show what it consists of.
    """
    probes = torch.eye(size).view(size, size, 1, 1).expand(-1, -1, PROBE, PROBE).contiguous()
    torch.manual_seed(seed)
    share = mix(probes, torch.zeros(size, dtype=torch.int64))[0].mean((2, 3))
    other = share - torch.diag_embed(share.diagonal())
    return [int(row.argmax()) if row.max() > 0 else i for i, row in enumerate(other)]


def _original(images: Images, index: int) -> Tensor:
    """The image as it is stored, of any size."""
    return images.pixels[index] if isinstance(images, ArrayImages) else images.load(index)


def _name(part: object) -> str:
    """The names of a transform's parts, one per line."""
    parts = [part.view, *part.transforms] if isinstance(part, Compose) else [part]
    return "\n".join(type(each).__name__ for each in parts)


def _mixed_batch(data: LongTailDataModule) -> tuple[Batch, Tensor]:
    """The first batch and the places of its images; with a foreground, the first that is mixed."""
    loader, foreground = data.train_dataloader(), data.views.foreground
    first = 0 if foreground is None else foreground.first
    tried = 0
    for epoch in range(first, first + TRIES):
        loader.set_epoch(epoch)
        for batch, (indices, _) in zip(loader, loader.plan.batches(epoch, 0), strict=True):
            if foreground is None or batch.foreground is not None:
                return batch, indices
            tried += 1
            if tried == TRIES:
                raise CarltError(
                    f"aug.paste mixed none of {TRIES} batches: is aug.paste.probability too small, or do "
                    "aug.paste.first and aug.paste.last leave no epoch?"
                )
    raise CarltError(f"{data.name} serves no training batch")


def _soft_label(row: Tensor, class_names: list[str]) -> str:
    """The classes that share a label, largest first: ``0.63 cat`` and ``0.37 dog``, one per line."""
    shares, classes = row.sort(descending=True)
    kept = [(float(share), int(label)) for share, label in zip(shares, classes, strict=True) if share > 0.005][:3]
    return "\n".join(f"{share:.2f} {_short(class_names[label])}" for share, label in kept)


def _short(name: str) -> str:
    """At most 18 letters, without the WordNet number that ImageNet's names begin with."""
    name = printable(re.sub(r"^n\d{8} ", "", name))
    return name if len(name) <= 18 else name[:17] + "…"


def _show(axes: "Axes", picture: Tensor, caption: str) -> None:
    axes.imshow(picture.permute(1, 2, 0).squeeze(-1).cpu().numpy(), cmap="gray", vmin=0, vmax=255)
    axes.set_xlabel(caption, fontsize=8)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
