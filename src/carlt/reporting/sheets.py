"""Sheets of test images that a run got wrong, each beside the training image nearest to it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from carlt.runs.examples import Examples
from carlt.runs.text import printable, shortened

KINDS = ("worst classes", "confused pairs")
READING = (
    "Wrong test images, the most confident first, with the predicted class and its confidence; to the right of each "
    "the training image with the most similar features, of the true or of the predicted class."
)


def rows_of(examples: Examples, kind: str) -> list[int]:
    """The rows of a kind that hold a picture."""
    return [r for r in np.flatnonzero(examples.kinds == kind).tolist() if examples.captions[r, 0, 0]]


def draw_rows(axes: Sequence[Any], examples: Examples, rows: Sequence[int]) -> None:
    """Draw the rows onto axes (len(rows) * 2K), row by row."""
    columns = examples.captions.shape[1]
    for i, row in enumerate(rows):
        for k in range(columns):
            for side in (0, 1):
                axis = axes[(i * columns + k) * 2 + side]
                axis.set(xticks=[], yticks=[])
                for spine in axis.spines.values():
                    spine.set_visible(False)
                if not (caption := str(examples.captions[row, k, side])):
                    continue
                image = examples.images[row, k, side]
                picture = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
                axis.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
                axis.set_xlabel(shortened(caption, 26), fontsize=6.5, labelpad=2)
                if side:
                    for spine in axis.spines.values():  # a frame tells training images from test images
                        spine.set(visible=True, color="#808080", linewidth=1.5)
        first = axes[i * columns * 2]
        first.set_title(" ", fontsize=8, pad=3)  # the height; the width of a long title must not part the columns
        text = printable(str(examples.titles[row]))
        first.annotate(text, (0, 1), (0, 3), "axes fraction", "offset points", fontsize=8).set_in_layout(False)
