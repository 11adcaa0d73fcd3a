"""Official facts of a data set, and the check that what was read agrees with them."""

import math
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from carlt.errors import CarltError
from carlt.functional.accuracy import class_groups
from carlt.runs.paths import check_file, file_digest

OVERRIDE = "to use other data than the official, give data.official=false"


@dataclass(frozen=True)
class Facts:
    """The published facts of a split; None where nothing is published.

    ``images`` in all, ``classes``, ``smallest`` and ``largest`` class, and how many classes are (``many``, ``medium``,
    ``few``)-shot, more than 100, 20 to 100 and fewer than 20 images.
    """

    images: int
    classes: int
    smallest: int | None = None
    largest: int | None = None
    groups: tuple[int, int, int] | None = None

    def check(self, counts: Tensor, where: str) -> None:
        """CarltError with every fact in which ``counts`` (C,), the images of each class, differs."""
        found = Facts(
            images=int(counts.sum()),
            classes=int((counts > 0).sum()),
            smallest=int(counts.min()),
            largest=int(counts.max()),
            groups=tuple(int(mask.sum()) for mask in class_groups(counts).values()),  # type: ignore[arg-type]
        )
        wrong = [
            f"{fact}: expected {expected}, found {getattr(found, fact)}"
            for fact, expected in vars(self).items()
            if expected is not None and expected != getattr(found, fact)
        ]
        if wrong:
            raise CarltError(f"{where} is not the official split ({'; '.join(wrong)}); {OVERRIDE}")


def check_digest(path: Path, accepted: tuple[str, ...]) -> None:
    """CarltError unless ``path`` is a file whose sha256 is one of ``accepted``."""
    check_file(path, str(path), math.inf)
    found = file_digest(path)
    if found not in accepted:
        raise CarltError(
            f"{path} is not the official file (sha256: expected {' or '.join(accepted)}, found {found}); remove it and "
            f"prepare the data again, or, {OVERRIDE}"
        )
