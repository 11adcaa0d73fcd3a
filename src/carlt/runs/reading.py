"""Run folders as reports read them: small files at once, files that only plots need on first use."""

import csv
import json
import os
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from carlt.errors import CarltError
from carlt.runs import paths
from carlt.runs.record import ClassResult, read_per_class

NOT_RUNS = ("wandb", "tensorboard", "checkpoints", "plots")
# libyaml's loader is ten times as fast, and as safe: neither builds anything but plain values.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Cells:
    """Non-zero cells of a confusion matrix: ``count[k]`` images of class ``true[k]`` predicted as ``predicted[k]``."""

    true: np.ndarray
    predicted: np.ndarray
    count: np.ndarray


class LeftOut(NamedTuple):
    """A folder that a report cannot use, and why."""

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
        """The classes on the test split, by class number."""
        return self._read(read_per_class)

    @cached_property
    def confusion(self) -> Cells:
        """The confusion of the test split."""
        return self._read(_read_confusion)

    @cached_property
    def epochs(self) -> list[dict[str, float]]:
        """What each epoch measured, without empty cells."""
        return self._read(_read_epochs)

    def metric(self, name: str, best: bool = False) -> float:
        """A metric of the last or the best epoch; NaN where it has none."""
        metrics = (self.result.get("best") or {}).get("metrics", {}) if best else self.result["metrics"]
        value = metrics.get(name)
        return float("nan") if value is None else float(value)

    def _read(self, reader: Any) -> Any:
        try:
            return reader(self.folder)
        except OSError as error:
            raise CarltError(f"{error.filename} cannot be read ({error.strerror})") from None
        except Exception as error:  # damaged csv and npz files raise many kinds of error
            raise CarltError(f"{self.folder} is damaged: {error}") from None


def read_runs(folders: Sequence[Path]) -> tuple[list[Run], list[LeftOut]]:
    """Every run among and below ``folders`` in natural order, and what had to be left out.

    Raises:
        CarltError: a folder does not exist, or there is no finished run at all.
    """
    if missing := [str(folder) for folder in folders if not folder.is_dir()]:
        raise CarltError(f"no such folder: {', '.join(missing)}")
    runs, left_out = [], []
    for folder in sorted({found.resolve(): found for top in folders for found in _walk(top)}.values(), key=_natural):
        try:
            runs.append(read_run(folder))
        except CarltError as error:
            left_out.append(LeftOut(folder, str(error)))
    if not runs:
        rest = f"; left out: {'; '.join(f'{folder} ({reason})' for folder, reason in left_out)}" if left_out else ""
        raise CarltError(f"no finished run (no {paths.RESULT}) in {', '.join(map(str, folders))}{rest}")
    empty = [LeftOut(top, "no run in it") for top in folders if not any(_walk(top))]
    return runs, left_out + empty


def read_run(folder: Path) -> Run:
    """The run in ``folder``; CarltError names in a few words what is missing."""
    try:
        result = json.loads((folder / paths.RESULT).read_text())
        config = yaml.load((folder / paths.CONFIG).read_text(), _Loader)
    except FileNotFoundError as error:
        unfinished = Path(error.filename).name == paths.RESULT
        raise CarltError("not finished" if unfinished else f"no {paths.CONFIG}") from None
    except OSError as error:
        raise CarltError(f"{Path(error.filename).name} cannot be read ({error.strerror})") from None
    except ValueError:
        raise CarltError(f"{paths.RESULT} is damaged") from None
    except yaml.YAMLError:
        raise CarltError(f"{paths.CONFIG} is damaged") from None
    if not isinstance(config, dict):
        raise CarltError(f"{paths.CONFIG} is damaged")
    kinds = {"seed": int, "num_classes": int, "epochs": int, "metrics": dict, "data": dict}
    lacking = [
        key for key, kind in kinds.items() if not isinstance(result, dict) or not isinstance(result.get(key), kind)
    ]
    if lacking:
        raise CarltError(f"{paths.RESULT} lacks {', '.join(lacking)}")
    _check_files(folder, result["num_classes"])
    return Run(folder, _flat(config), result)


def _check_files(folder: Path, num_classes: int) -> None:
    """Check that the files that plots read exist and are not obviously damaged."""
    for name in (paths.PER_CLASS, paths.CONFUSION, paths.METRICS):
        if not (folder / name).is_file():
            raise CarltError(f"no {name}")
    if not zipfile.is_zipfile(folder / paths.CONFUSION):
        raise CarltError(f"{paths.CONFUSION} is damaged")
    if (folder / paths.PER_CLASS).read_bytes().count(b"\n") <= num_classes:
        raise CarltError(f"{paths.PER_CLASS} is damaged")


def _walk(top: Path) -> Iterator[Path]:
    """Folders that hold a result or a config, unless they belong to a logger or to Hydra."""
    for here, below, files in os.walk(top):
        below[:] = [name for name in below if name not in NOT_RUNS and not name.startswith(".")]
        if paths.RESULT in files or paths.CONFIG in files:
            yield Path(here)


def _natural(path: Path) -> list[tuple[float, str]]:
    """A key that puts job 2 of a sweep before job 10, and weight=0.0625 before weight=0.5."""
    parts = re.split(r"(\d+(?:\.\d+)?)", str(path))
    return [(float(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts)]


def _flat(node: Any, prefix: str = "") -> dict[str, str]:
    if not isinstance(node, dict):
        return {prefix[:-1]: str(node)}
    return {name: value for key, item in node.items() for name, value in _flat(item, f"{prefix}{key}.").items()}


def _read_confusion(folder: Path) -> Cells:
    with np.load(folder / paths.CONFUSION, allow_pickle=False) as file:
        return Cells(file["true"], file["predicted"], file["count"])


def _read_epochs(folder: Path) -> list[dict[str, float]]:
    with open(folder / paths.METRICS, newline="") as file:
        return [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]
