"""What the files of an image folder are: sizes, kinds, copies of one another, and classes with almost no images."""

import os
import stat
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import UnidentifiedImageError

from carlt.data.images import FileImages, Splits
from carlt.data.io.decode import open_image, orientation
from carlt.errors import first_line
from carlt.runs.paths import file_digest
from carlt.runs.text import counted, printable

NEAR_EMPTY = 5
"""A class with fewer training images than this is near-empty."""
NAMED = 8
"""Classes or files that a line names at most."""
TURNED = (5, 6, 7, 8)
"""EXIF orientations in which the stored width is the height of the upright picture."""


class File(NamedTuple):
    """An image file by its place: its split, its class and its path."""

    split: str
    label: int
    path: Path


@dataclass(frozen=True)
class FolderInspection:
    """What is known of the files of all splits."""

    sizes: np.ndarray
    """Width and height in pixels of each readable image, upright, int64 (N, 2)."""
    formats: Counter[str]
    modes: Counter[str]
    """Images by Pillow's names of their formats and modes."""
    unreadable: Sequence[tuple[Path, str]]
    """Files without a readable header, and the reasons."""
    copies: Sequence[Sequence[File]]
    """Files with the same content, at least two in each group."""

    def shared(self, one: str, other: str) -> list[Sequence[File]]:
        """The groups with a file in both splits."""
        return [group for group in self.copies if {one, other} <= {file.split for file in group}]

    @property
    def contradictions(self) -> list[Sequence[File]]:
        """The groups whose files are in different classes."""
        return [group for group in self.copies if len({file.label for file in group}) > 1]

    @property
    def surplus(self) -> int:
        """Files that are left over if one of each content is kept."""
        return sum(len(group) - 1 for group in self.copies)


def inspect(splits: Splits, threads: int = 1) -> FolderInspection:
    """Read the header of every image file, and the whole of those that may be copies. No picture is decoded."""
    files = list(_files(splits))
    with ThreadPoolExecutor(max(1, threads)) as pool:
        headers = list(pool.map(_header, (file.path for file in files)))
        by_bytes: dict[int, list[File]] = defaultdict(list)
        for file, header in zip(files, headers, strict=True):
            if isinstance(header, _Header):
                by_bytes[header.bytes].append(file)
        candidates = [file for group in by_bytes.values() if len(group) > 1 for file in group]
        by_content: dict[str, list[File]] = defaultdict(list)
        for file, digest in zip(candidates, pool.map(file_digest, (file.path for file in candidates)), strict=True):
            by_content[digest].append(file)
    good = [header for header in headers if isinstance(header, _Header)]
    bad = [(file.path, header) for file, header in zip(files, headers, strict=True) if isinstance(header, str)]
    return FolderInspection(
        sizes=np.array([header.size for header in good], dtype=np.int64).reshape(-1, 2),
        formats=Counter(header.format for header in good),
        modes=Counter(header.mode for header in good),
        unreadable=bad,
        copies=[group for group in by_content.values() if len(group) > 1],
    )


def describe(found: FolderInspection, splits: Splits, image_size: int) -> str:
    """Lines on files, sizes, copies and near-empty classes."""
    return "\n".join([*_files_lines(found, image_size), *_copies_lines(found, splits), *_classes_lines(splits)])


class _Header(NamedTuple):
    bytes: int
    size: tuple[int, int]
    format: str
    mode: str


def _files(splits: Splits) -> Iterator[File]:
    for name, split in splits.named().items():
        assert isinstance(split.images, FileImages)
        for index, label in enumerate(split.targets.tolist()):
            yield File(name, label, split.images.path(index))


def _header(path: Path) -> _Header | str:
    try:
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode):  # reading a pipe would wait for ever
            return "no regular file"
        with open_image(path) as image:
            width, height = image.size
            if orientation(image) in TURNED:
                width, height = height, width
            return _Header(facts.st_size, (width, height), str(image.format), image.mode)
    except UnidentifiedImageError:
        return "the file holds no image"
    except Exception as error:  # a reader of a damaged or hostile file has errors of its own
        return first_line(error)


def _files_lines(found: FolderInspection, image_size: int) -> Iterator[str]:
    if len(found.sizes):
        (low, high), median = _extremes(found.sizes), np.median(found.sizes, 0)
        yield f"files: {_counts(found.formats)}; {_counts(found.modes)}"
        yield (
            f"sizes: median {median[0]:.0f} x {median[1]:.0f} pixels, smallest {low[0]} x {low[1]}, "
            f"largest {high[0]} x {high[1]}"
        )
        if small := int((found.sizes.min(1) < image_size).sum()):
            yield f"  {counted(small, 'image')} smaller than data.image_size={image_size} on a side, to be enlarged"
    if found.unreadable:
        yield (
            f"unreadable: {counted(len(found.unreadable), 'file')}; mend them, or train with data.on_error=skip: "
            f"{_listed([f'{path} ({reason})' for path, reason in found.unreadable])}"
        )


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counter.most_common())


def _extremes(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sizes with the smallest and with the largest area."""
    order = sizes.prod(1).argsort(kind="stable")
    return sizes[order[0]], sizes[order[-1]]


def _copies_lines(found: FolderInspection, splits: Splits) -> Iterator[str]:
    if not found.copies:
        yield "copies: none; no two files have the same content"
        return
    yield f"copies: {counted(found.surplus, 'file')} with the content of another file"
    for one, other in (("train", "test"), ("val", "test"), ("train", "val")):
        if groups := found.shared(one, other):
            first = [next(file for file in groups[0] if file.split == split) for split in (one, other)]
            extra = "; they make the test accuracy too high" if (one, other) == ("train", "test") else ""
            yield f"  {counted(len(groups), 'content')} in {one} and in {other}{extra}; the first: {_paths(first)}"
    if groups := found.contradictions:
        first = list({file.label: file for file in groups[0]}.values())[:2]
        names = printable(" and ".join(splits.class_names[file.label] for file in first))
        yield f"  {counted(len(groups), 'content')} in two classes; the first, in {names}: {_paths(first)}"


def _paths(files: Iterable[File]) -> str:
    return printable(", ".join(str(file.path) for file in files))


def _classes_lines(splits: Splits) -> Iterator[str]:
    by_count = sorted(zip(splits.class_counts.tolist(), splits.class_names, strict=True))
    if named := [f"{name} ({count})" for count, name in by_count if count < NEAR_EMPTY]:
        yield (
            f"near-empty: {counted(len(named), 'class', 'classes')} with fewer than {NEAR_EMPTY} training images: "
            f"{_listed(named)}"
        )


def _listed(names: Sequence[str]) -> str:
    return printable(", ".join(names[:NAMED])) + (f" and {len(names) - NAMED:,} more" if len(names) > NAMED else "")
