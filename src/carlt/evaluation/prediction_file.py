"""Predictions as CSV or JSON Lines, and the file that a stopped command goes on with."""

import csv
import io
import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from carlt.errors import CarltError
from carlt.evaluation.predict import Prediction
from carlt.runs.paths import read_text, write_text_atomic, written_whole
from carlt.runs.text import printable, spreadsheet_cell


class Rows(ABC):
    """One form of predictions as text: a line per image, after ``header``."""

    header = ""

    @abstractmethod
    def name(self, path: Path) -> str:
        """The path as a line has it."""

    @abstractmethod
    def line(self, prediction: Prediction) -> str:
        """One line, with its end."""

    @abstractmethod
    def read(self, line: str) -> tuple[str, bool]:
        """The name in a line, and whether it is a prediction rather than an error; ValueError if it is neither."""


class CsvRows(Rows):
    """``path,class_1,probability_1,...,error``; an adjustment adds ``adjusted_class_1,adjusted_probability_1,...``.

    Control characters are written out, and no cell is a formula to a spreadsheet. A backslash of a path is doubled, so
    that two paths are two names.
    """

    def __init__(self, top_k: int, adjusted: bool):
        self.top_k, self.adjusted = top_k, adjusted
        kinds = ("", "adjusted_") if adjusted else ("",)
        names = ("class", "probability")
        pairs = [f"{kind}{name}_{rank + 1}" for kind in kinds for rank in range(top_k) for name in names]
        self.columns = ["path", *pairs, "error"]
        self.header = _csv_line(self.columns)

    def name(self, path: Path) -> str:
        return spreadsheet_cell(printable(str(path).replace("\\", r"\\")))

    def line(self, prediction: Prediction) -> str:
        given = [(prediction.classes, prediction.probabilities)]
        given += [(prediction.adjusted_classes, prediction.adjusted_probabilities)] if self.adjusted else []  # type: ignore[list-item]
        cells = [self.name(prediction.path)]
        for classes, probabilities in given:
            for name, probability in zip(classes, probabilities, strict=True):
                cells += [spreadsheet_cell(printable(name)), f"{probability:.6g}"]
            cells += [""] * (2 * (self.top_k - len(classes)))
        return _csv_line([*cells, spreadsheet_cell(printable(prediction.error or ""))])

    def read(self, line: str) -> tuple[str, bool]:
        (cells,) = csv.reader([line], strict=True)
        if len(cells) != len(self.columns):
            raise ValueError
        return cells[0], not cells[-1]


class JsonRows(Rows):
    """JSON Lines: ``{"path": ..., "classes": [...], "probabilities": [...]}``, or with ``"error"``."""

    def name(self, path: Path) -> str:
        return str(path)

    def line(self, prediction: Prediction) -> str:
        row: dict[str, Any] = {"path": str(prediction.path)}
        if prediction.error is not None:
            row["error"] = prediction.error
        else:
            row |= {"classes": prediction.classes, "probabilities": _rounded(prediction.probabilities)}
            if prediction.adjusted_classes:
                row["adjusted_classes"] = list(prediction.adjusted_classes)
                row["adjusted_probabilities"] = _rounded(prediction.adjusted_probabilities)
        return json.dumps(row, ensure_ascii=False) + "\n"

    def read(self, line: str) -> tuple[str, bool]:
        row = json.loads(line)
        if not isinstance(row, dict) or not isinstance(row.get("path"), str):
            raise ValueError
        return row["path"], "error" not in row


FORMATS = {".csv": CsvRows, ".jsonl": lambda top_k, adjusted: JsonRows()}
"""The form of a file by its extension."""
ENCODING: dict[str, str] = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
"""A name that is no UTF-8 is written with escapes, which JSON reads back."""


def check_output(path: Path) -> None:
    """CarltError unless the extension of ``path`` says what to write."""
    if path.suffix.lower() not in FORMATS:
        raise CarltError(f"output={path}: choose a name that ends in {' or '.join(FORMATS)}")


def begin(path: Path, rows: Rows, origin: dict[str, Any]) -> set[str]:
    """Make ``path`` ready to append to, and return the names of the images it has predictions of.

    The lines of errors and a line cut off by a kill are removed, so that those images are tried again. ``origin`` is
    what the predictions depend on; it is kept beside, in ``<path>.json``.

    Raises:
        CarltError: the file was made with another ``origin``, or not by this command.
    """
    beside = path.with_name(path.name + ".json")
    kept: dict[str, str] = {}
    if path.exists() or beside.exists():
        _check_origin(path, beside, origin)
    if path.exists():
        kept = _finished_lines(path, rows)
    write_text_atomic(beside, json.dumps(origin, indent=2) + "\n")
    with written_whole(path) as part, open(part, "w", **ENCODING) as file:  # type: ignore[call-overload]
        file.writelines([rows.header, *kept.values()])
    return set(kept)


def _check_origin(path: Path, beside: Path, origin: dict[str, Any]) -> None:
    try:
        before = json.loads(read_text(beside))
    except (FileNotFoundError, ValueError, RecursionError):
        before = None
    if not isinstance(before, dict) or not origin.keys() <= before.keys():
        there = beside if beside.exists() else path
        raise CarltError(f"output={path}: carlt.predict did not write {there.name}, which exists; choose another file")
    different = [key for key, value in origin.items() if before.get(key) != value]
    if path.exists() and different:
        raise CarltError(
            f"output={path} has predictions with another {', '.join(different)}; choose another file, or remove it"
        )


def _finished_lines(path: Path, rows: Rows) -> dict[str, str]:
    """The lines of sound predictions by name."""
    text = path.read_bytes().decode("utf-8", "replace")
    if not text.startswith(rows.header):
        raise CarltError(f"output={path} has another header than {rows.header.strip()}; choose another file")
    kept = {}
    for line in text[len(rows.header) :].split("\n")[:-1]:
        try:
            name, sound = rows.read(line)
        except (ValueError, csv.Error):
            continue
        if sound:
            kept[name] = line + "\n"
    return kept


def _csv_line(cells: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _rounded(values: Any) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
