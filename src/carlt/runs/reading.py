"""Finished runs as reports read them: every file is checked before a number of it is used."""

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from carlt.errors import CarltError, first_line
from carlt.runs import examples, paths
from carlt.runs.archives import read_arrays
from carlt.runs.config_file import read_config
from carlt.runs.defaults import with_old_defaults
from carlt.runs.record import MAX_NUMBER, ClassResult, read_epochs, read_per_class, read_result
from carlt.runs.renamed import with_new_names
from carlt.runs.resumed import changes
from carlt.runs.text import command_line, printable

HUGE = 1e100
"""Beyond it the axis of a plot has no marks."""
NOT_RUNS = ("wandb", "tensorboard", "checkpoints", "plots")
"""Folders inside a run folder that hold no runs."""
RECORDS = (paths.RESULT, paths.CONFIG, paths.PER_CLASS, paths.CONFUSION, paths.METRICS)
NESTED: dict[str, type] = {
    "metrics": float, "timings": float, "bound": float, "hardware": object, "versions": str,
}  # fmt: skip
"""The mappings of ``result.json`` that reports read, and the kind of their values (float: number or null)."""
KINDS = {"seed": int, "num_classes": int, "epochs": int, "metrics": dict, "data": dict}
"""The keys of ``result.json`` that every report needs."""
MOST_BINS = 1000
"""Of a reliability diagram that is taken. carlt writes fewer."""


@dataclass(frozen=True)
class Cells:
    """The non-zero cells of a confusion matrix, each array (K,): ``count[k]`` images of class ``true[k]`` were
    predicted as class ``predicted[k]``."""

    true: np.ndarray
    predicted: np.ndarray
    count: np.ndarray


class LeftOut(NamedTuple):
    """A folder that a report cannot use, and the reason."""

    folder: Path
    reason: str


@dataclass(frozen=True)
class Run:
    """A finished run: ``config`` with dotted names and values as text, and the content of ``result.json``."""

    folder: Path
    config: dict[str, str]
    result: dict[str, Any]

    @property
    def seed(self) -> int:
        return self.result["seed"]

    @cached_property
    def classes(self) -> list[ClassResult]:
        """The classes on the test split, ordered by class number."""
        return self._read(_read_classes, paths.PER_CLASS)

    @cached_property
    def confusion(self) -> Cells:
        """The confusion matrix of the test split."""
        return self._read(read_confusion, paths.CONFUSION)

    @cached_property
    def epochs(self) -> list[dict[str, float]]:
        """The metrics of each epoch, without empty cells."""
        return self._read(_read_epochs, paths.METRICS)

    def metric(self, name: str, best: bool = False) -> float:
        """A metric of the last or the best epoch; NaN where the run has none."""
        metrics = (self.result.get("best") or {}).get("metrics", {}) if best else self.result["metrics"]
        value = metrics.get(name)
        return float("nan") if value is None else float(value)

    def _read(self, reader: Callable[[Path, int], Any], name: str) -> Any:
        try:
            return reader(self.folder, self.result["num_classes"])
        except FileNotFoundError:
            raise CarltError(f"no {name}") from None
        except OSError as error:
            raise CarltError(f"{error.filename or self.folder} cannot be read ({error.strerror})") from None
        except CarltError:
            raise
        except Exception as error:  # whatever a damaged csv or npz raises
            reason = first_line(error)
            raise CarltError(f"{name} is damaged: {reason[:200]}") from None


def read_runs(folders: Sequence[Path]) -> tuple[list[Run], list[LeftOut]]:
    """Every run in and below ``folders`` in natural order, and the folders that cannot be used.

    Raises:
        CarltError: a folder does not exist, or no folder holds a finished run.
    """
    if missing := [str(folder) for folder in folders if not os.path.isdir(folder)]:
        raise CarltError(f"no such folder: {', '.join(missing)}; give run folders or folders of them")
    runs, left_out = [], []

    def is_found_link(folder: Path) -> bool:
        return os.path.islink(folder) and folder not in folders

    places: dict[Path, Path] = {}
    for found in sorted((found for top in folders for found in _walk(top)), key=is_found_link):
        places.setdefault(found.resolve(), found)  # rather the folder itself than a link to it
    for folder in sorted(places.values(), key=_natural):
        if is_found_link(folder):
            left_out.append(LeftOut(folder, "a link, which is not followed; give it by its own name"))
            continue
        try:
            runs.append(read_run(folder))
        except CarltError as error:
            left_out.append(LeftOut(folder, printable(str(error))))
        except OSError as error:
            left_out.append(LeftOut(folder, f"cannot be read ({error.strerror})"))
    if not runs:
        rest = f"; left out: {'; '.join(f'{folder} ({reason})' for folder, reason in left_out)}" if left_out else ""
        raise CarltError(
            f"no finished run (no {paths.RESULT}) in {', '.join(map(str, folders))}{rest}; give folders that hold some"
        )
    empty = [LeftOut(top, "no run in it") for top in folders if not any(_walk(top))]
    return runs, left_out + empty


def read_run(folder: Path) -> Run:
    """The run in ``folder``. All its records are read and checked.

    Raises:
        CarltError: a file is missing or damaged; the message names it in a few words.
    """
    for name in (*RECORDS, examples.FILE):
        if paths.leads_out_of(folder / name, folder):
            raise CarltError(f"{name} is a link out of the run folder, and is not followed; put a copy in its place")
    for name in RECORDS:
        if (folder / name).exists():
            paths.check_file(folder / name, name)
    result = _read_result(folder)
    config = with_old_defaults(with_new_names(read_config(folder)))
    changed = changes(config)
    config.pop("resumed", None)
    run = Run(folder, _dotted(config | ({"resumed": ", ".join(changed)} if changed else {})), result)
    stored, recorded = run.config.get("run_hash"), result.get("run_hash")  # early records have none in the config
    if stored and stored != str(recorded):
        raise CarltError(
            f"{paths.CONFIG} and {paths.RESULT} are of different runs (run_hash {stored[:8]} and {str(recorded)[:8]}): "
            "the folder was mixed up, or a finished run was resumed and has not finished again"
        )
    for _ in (run.classes, run.confusion, run.epochs):  # damage ends here, not in the middle of a report
        pass
    return run


def finished_run(folder: Path) -> Run:
    """The run in ``folder``, which the option ``run=`` named.

    Raises:
        CarltError: see :func:`read_run`; the message names option and folder, and how to finish an interrupted run.
    """
    try:
        return read_run(folder)
    except CarltError as error:
        remedy = "give the folder of a finished run"
        if (folder / paths.CONFIG).is_file() and not (folder / paths.RESULT).exists():
            remedy = f"{command_line('carlt.train', f'resume={folder}')} finishes it"
        raise CarltError(f"run={folder}: {error}; {remedy}") from None


def _read_result(folder: Path) -> dict[str, Any]:
    if not (folder / paths.RESULT).exists():
        raise CarltError("not finished" if (folder / paths.CONFIG).is_file() else f"no {paths.RESULT}")
    try:
        return _checked_result(read_result(folder))
    except RecursionError:
        raise CarltError(f"{paths.RESULT} is damaged: nested too deeply") from None


def _checked_result(result: dict[str, Any]) -> dict[str, Any]:
    if lacking := [key for key, kind in KINDS.items() if not _is(result.get(key), kind)]:
        raise CarltError(f"{paths.RESULT} lacks {', '.join(lacking)}")
    if problems := list(_problems(result)):
        raise CarltError(f"{paths.RESULT} is damaged: {', '.join(problems)}")
    return _printable(result)


def _printable(value: Any) -> Any:
    """All texts in ``value`` in printable form."""
    if isinstance(value, dict):
        return {printable(key): _printable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_printable(item) for item in value]
    return printable(value) if isinstance(value, str) else value


def _problems(result: Mapping[str, Any]) -> Iterator[str]:
    """The keys of ``result.json`` whose values have another type than reports need."""
    classes = result["num_classes"]
    for name in ("num_classes", "epochs"):
        if result[name] < 1:
            yield name
    yield from (name for name, value in result.items() if _is_huge(value))
    yield from (name for name in ("commit", "run_hash") if not _is(result.get(name), str))
    for name, kind in NESTED.items():
        if result.get(name) is not None and not _is_mapping(result[name], kind):
            yield name
    if not _is_mapping({k: v for k, v in result["data"].items() if k in ("name", "sha256")}, str):
        yield "data"
    counts = result.get("class_counts")
    if counts is not None and not (_is(counts, list) and len(counts) == classes and all(_is(n, int) for n in counts)):
        yield "class_counts"
    best = result.get("best")
    if best is not None and not (
        _is(best, dict)
        and _is(best.get("epoch"), int)
        and _is_mapping(best.get("metrics"), float)
        and isinstance(best.get("chosen_by"), str | None)
    ):
        yield "best"
    calibration = result.get("calibration")
    if calibration is not None and not (_is(calibration, dict) and all(map(_is_bins, calibration.values()))):
        yield "calibration"


def _is_bins(value: Any) -> bool:
    """Whether ``value`` holds equally many images, confidences and accuracies, of ``MOST_BINS`` bins at most."""
    names = ("images", "confidence", "accuracy")
    return (
        _is(value, dict)
        and all(_is(value.get(name), list) and all(_is(x, float) for x in value[name]) for name in names)
        and len({len(value[name]) for name in names}) == 1
        and len(value["images"]) <= MOST_BINS
        and all(x is not None and x >= 0 for x in value["images"])
        # A device may round a probability of 1 up.
        and all(x is None or 0 <= x <= 1 + 1e-6 for name in names[1:] for x in value[name])
    )


def _is_huge(value: Any) -> bool:
    """Whether ``value`` is, or holds, a number beyond ``MAX_NUMBER``."""
    if isinstance(value, dict | list):
        return any(map(_is_huge, value.values() if isinstance(value, dict) else value))
    return isinstance(value, int | float) and abs(value) > MAX_NUMBER


def _is_mapping(value: Any, kind: type) -> bool:
    return _is(value, dict) and all(_is(item, kind) for item in value.values())


def _is(value: Any, kind: type) -> bool:
    """Whether ``value`` is of ``kind``: a bool is no int, a float may be an int or null, a str may be null, and
    anything is an object."""
    if kind is float:
        return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    if kind is object:
        return True
    if kind is str:
        return value is None or isinstance(value, str)
    return isinstance(value, kind) and not isinstance(value, bool)


def _walk(top: Path) -> Iterator[Path]:
    """Folders that hold a result or a config, without those of loggers and of Hydra, links to such folders, and folders
    that cannot be listed. Below a link nothing is found."""
    closed: list[Path] = []
    for here, below, files in os.walk(top, onerror=lambda error: closed.append(Path(error.filename))):
        too_deep = paths.is_too_deep(Path(here), top)
        below[:] = [name for name in below if not (too_deep or name in NOT_RUNS or name.startswith("."))]
        if paths.RESULT in files or paths.CONFIG in files:
            yield Path(here)
        links = [Path(here, name) for name in below if os.path.islink(os.path.join(here, name))]
        yield from (link for link in links if any(os.path.isfile(link / name) for name in (paths.RESULT, paths.CONFIG)))
    yield from closed


def _natural(path: Path) -> list[tuple[float, str]]:
    """A key that puts job 2 of a sweep before job 10, and weight=0.0625 before weight=0.5."""
    parts = re.split(r"(\d+(?:\.\d+)?)", str(path))
    return [(float(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts)]


def _dotted(node: Any, prefix: str = "") -> dict[str, str]:
    """A nested mapping as one level: ``{"reg": {"weight": 1}}`` becomes ``{"reg.weight": "1"}``."""
    if not isinstance(node, dict):
        return {printable(prefix[:-1]): printable(str(node))}
    return {name: value for key, item in node.items() for name, value in _dotted(item, f"{prefix}{key}.").items()}


def _read_classes(folder: Path, num_classes: int) -> list[ClassResult]:
    rows = read_per_class(folder)
    if len(rows) != num_classes or any(row.class_id != label for label, row in enumerate(rows)):
        raise ValueError(f"{len(rows)} rows for {num_classes} classes")
    return [row._replace(class_name=printable(row.class_name)) for row in rows]


def read_confusion(folder: Path, num_classes: int) -> Cells:
    """The cells of ``confusion.npz``; ValueError for impossible ones."""
    cells = Cells(*read_arrays(folder / paths.CONFUSION, ("true", "predicted", "count")))
    arrays = (cells.true, cells.predicted, cells.count)
    if any(array.ndim != 1 or array.dtype.kind not in "iu" or array.shape != cells.count.shape for array in arrays):
        raise ValueError("its arrays are not three equally long lists of integers")
    for classes in (cells.true, cells.predicted):
        if len(classes) and not 0 <= classes.min() <= classes.max() < num_classes:
            raise ValueError(f"classes outside 0 to {num_classes - 1}")
    if len(cells.count) and not 0 <= cells.count.min() <= cells.count.max() <= MAX_NUMBER:
        raise ValueError("impossible counts")
    return Cells(*(array.astype(np.int64) for array in arrays))  # numpy makes floats of int64 with uint64


def _read_epochs(folder: Path, num_classes: int) -> list[dict[str, float]]:
    rows = read_epochs(folder / paths.METRICS)
    if any("epoch" not in row for row in rows):
        raise ValueError("a row without epoch")
    if any(not 0 <= row["epoch"] <= MAX_NUMBER for row in rows):
        raise ValueError("an impossible epoch")
    if any(math.isfinite(value) and abs(value) > HUGE for row in rows for value in row.values()):
        raise ValueError(f"a number beyond {HUGE:g}, which no axis can show")
    return rows
