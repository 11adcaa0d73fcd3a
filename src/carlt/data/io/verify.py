"""The check of image files: missing ones by listing folders, damaged ones by decoding, in parallel."""

import os
from collections.abc import Callable, Set
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from carlt.data.images import FileImages
from carlt.data.io.decode import REMEDY
from carlt.errors import CarltError
from carlt.runs.text import get_logger

Verify = Literal["lists", "files", "full"]
NAMED = 20
"""Unusable images, beside the first, that a message names at most."""
log = get_logger(__name__)


def usable(images: FileImages, verify: Verify, num_workers: int, place: Callable[[int], str] | None = None) -> Tensor:
    """Indices of the images that exist (``files``) and decode (``full``).

    An unusable image is an error, or counted, logged and left out where ``images.on_error`` is ``skip``.
    ``place(index)`` is the place where it is listed, if it is.
    """
    problems = dict.fromkeys(missing(images.root, images.paths).tolist(), "the file is missing")
    if verify == "full":
        problems |= undecodable(images, num_workers, skip=set(problems))
    if problems:
        first, *others = sorted(problems)
        path, listed = images.path(first), f" ({place(first)})" if place else ""
        reason = problems[first].removeprefix(f"image {path} ").removesuffix(REMEDY)
        found = f"{len(problems)} of {len(images)} images unusable; the first: {path}{listed}: {reason}"
        if others:
            found += "; the others: " + ", ".join(str(images.path(index)) for index in others[:NAMED])
            found += f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        if images.on_error == "raise":
            raise CarltError(f"{found}. Restore or replace them, or leave them out with data.on_error=skip")
        log.warning("left out %s", found)
    return torch.tensor([index for index in range(len(images)) if index not in problems], dtype=torch.int64)


def missing(root: Path, paths: np.ndarray) -> np.ndarray:
    """Indices of the ``paths`` (bytes, relative to ``root``) that do not exist; lists each folder once."""
    present: dict[bytes, set[bytes]] = {}
    absent = []
    for index, path in enumerate(paths.tolist()):
        folder, _, name = path.rpartition(b"/")
        if folder not in present:
            try:
                entries = os.scandir(os.path.join(os.fsencode(root), folder))
                present[folder] = {e.name for e in entries if not e.is_symlink() or os.path.exists(e)}
            except (OSError, ValueError):  # ValueError: a name with a NUL
                present[folder] = set()
        if name not in present[folder]:
            absent.append(index)
    return np.array(absent, dtype=np.int64)


class _Decodes(Dataset):
    """Item i: (index, None if image i decodes, else the reason)."""

    def __init__(self, images: FileImages, indices: list[int]):
        self.images, self.indices = images, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, item: int) -> tuple[int, str | None]:
        index = self.indices[item]
        try:
            self.images.load(index)
        except CarltError as error:
            return index, str(error)
        return index, None


def undecodable(images: FileImages, num_workers: int = 0, skip: Set[int] = frozenset()) -> dict[int, str]:
    """Index and reason of every image that cannot be decoded, found by decoding all but those in ``skip``."""
    indices = [index for index in range(len(images)) if index not in skip]
    loader = DataLoader(_Decodes(images, indices), batch_size=64, num_workers=num_workers, collate_fn=list)
    return {index: reason for batch in loader for index, reason in batch if reason is not None}
