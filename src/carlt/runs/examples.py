"""``examples.npz``: pictures of the worst classes and of the most confused pairs, for sheets and reports."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from carlt.errors import CarltError
from carlt.runs.archives import read_arrays
from carlt.runs.paths import written_whole

FILE = "examples.npz"
ROWS, COLUMNS, PIXELS, LONGEST = 16, 8, 256, 2000
"""Of a file that is taken: rows, images in a row, sides of an image, letters of a text. carlt writes fewer."""
MAX_BYTES = ROWS * COLUMNS * 2 * (3 * PIXELS**2 + 4 * LONGEST) + (1 << 20)
"""Of the unpacked content, by those bounds; it is checked before anything is unpacked."""


class Examples(NamedTuple):
    """Rows of test images with the training image nearest to each; ``R`` rows of at most ``K`` images."""

    kinds: np.ndarray
    """Text (R,): ``worst classes`` or ``confused pairs``."""
    titles: np.ndarray
    """Text (R,)."""
    images: np.ndarray
    """uint8 (R, K, 2, C, H, W): the test image, and the nearest training image."""
    captions: np.ndarray
    """Text (R, K, 2); empty where the row has fewer images."""


def write_examples(folder: Path, examples: Examples) -> None:
    """Write ``examples.npz`` in one step."""
    with written_whole(folder / FILE) as beside, open(beside, "wb") as file:
        np.savez_compressed(file, **examples._asdict())


def read_examples(folder: Path) -> Examples | None:
    """The pictures of a run; None if it recorded none.

    Raises:
        CarltError: the file is damaged, or too large.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        found = Examples(*read_arrays(path, Examples._fields, MAX_BYTES))
    except CarltError:
        raise
    except Exception as error:  # whatever a damaged file raises
        raise CarltError(f"{path} is damaged") from error
    rows, size = found.captions.shape[:2] if found.captions.ndim == 3 else (0, 0)
    sound = (
        found.images.dtype == np.uint8
        and found.images.ndim == 6
        and found.images.shape[:3] == found.captions.shape == (rows, size, 2)
        and found.titles.shape == found.kinds.shape == (rows,)
        and rows <= ROWS
        and 1 <= size <= COLUMNS
        and found.images.shape[3] in (1, 3)
        and all(1 <= side <= PIXELS for side in found.images.shape[4:])
        and all(
            array.dtype.kind == "U" and array.itemsize <= 4 * LONGEST
            for array in (found.kinds, found.titles, found.captions)
        )
    )
    if not sound:
        raise CarltError(f"{path} is damaged: its arrays have other shapes than carlt's")
    return found
