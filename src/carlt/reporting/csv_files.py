"""The numbers of a report as CSV: per configuration, per seed and per class, with a column per setting."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence

from carlt.reporting.groups import DataSet, Group, settings
from carlt.reporting.summary import Table
from carlt.runs.record import ClassResult
from carlt.runs.text import printable, spreadsheet_cell


def tables_csv(tables: Sequence[Table]) -> str:
    """All tables with one line per configuration and metric: full precision, all metrics."""
    names = list(dict.fromkeys(name for table in tables for row in table.rows for name in row.settings))
    head = ["data", "epoch", "kind", "configuration", *names, "metric", "n", "mean", "sd", "best", "baseline", "pairs",
            "difference", "ci95_low", "ci95_high", "published", "source"]  # fmt: skip
    return _text(head, (line for table in tables for line in _lines(table, names)))


def seeds_csv(data: Sequence[DataSet]) -> str:
    """One line per run: its settings, seed, folder and all metrics of the last epoch, accuracies in [0, 1]."""
    names = _settings(data)
    metrics = sorted({name for each in data for run in each.runs for name in run.result["metrics"]})
    head = ["data", "configuration", *names, "seed", "epochs", "folder", "commit", *metrics]
    return _text(head, (
        [*_place(each, group, names), seed, run.result["epochs"], spreadsheet_cell(printable(str(run.folder))),
         spreadsheet_cell(str(run.result.get("commit") or "")),
         *(_number(run.result["metrics"].get(name)) for name in metrics)]
        for each in data for group in each.groups for seed, run in group.runs.items()
    ))  # fmt: skip


def classes_csv(data: Sequence[DataSet]) -> str:
    """One line per run and class: its settings, seed and the columns of the run's ``per_class.csv``."""
    names = _settings(data)
    return _text(["data", "configuration", *names, "seed", *ClassResult._fields], (
        [*_place(each, group, names), seed,
         *row._replace(class_name=spreadsheet_cell(row.class_name), accuracy=_number(row.accuracy))]  # type: ignore
        for each in data for group in each.groups for seed, run in group.runs.items() for row in run.classes
    ))  # fmt: skip


def _lines(table: Table, names: Sequence[str]) -> Iterable[Sequence[object]]:
    title, baseline = spreadsheet_cell(table.title), spreadsheet_cell(table.baseline)
    for row in table.rows:
        place = [title, table.epoch, "measured", spreadsheet_cell(row.label), *_cells(row.settings, names)]
        for i, column in enumerate(table.columns):
            value, compared = row.estimates[i], [""] * 5
            if row.differences:
                mean, half, pairs = row.differences[i]
                compared = [baseline, str(pairs), *map(_number, (mean, mean - half, mean + half))]
            yield [*place, column.metric, value.n, _number(value.mean), _number(value.deviation), int(row.best[i]),
                   *compared, "", ""]  # fmt: skip
    for known in table.published:
        for metric, number in known.values.items():
            place = [title, "", "published", f"{known.method} ({known.setting})", *[""] * len(names)]
            yield [*place, metric, *[""] * 9, number, known.sources[metric]]


def _settings(data: Sequence[DataSet]) -> list[str]:
    return list(dict.fromkeys(name for each in data for name in settings(each.groups)))


def _place(data: DataSet, group: Group, names: Sequence[str]) -> list[str]:
    return [spreadsheet_cell(data.title), spreadsheet_cell(group.label), *_cells(group.settings, names)]


def _cells(settings: Mapping[str, str], names: Sequence[str]) -> list[str]:
    return [spreadsheet_cell(settings.get(name, "")) for name in names]


def _text(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(spreadsheet_cell, head))  # settings and metrics are named by the runs
    writer.writerows(rows)
    return text.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(value)
