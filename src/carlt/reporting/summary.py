"""The tables of a report as numbers: a row a configuration, compared with a baseline, beside published numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from carlt.reporting.groups import DataSet, Group
from carlt.reporting.published import Published
from carlt.reporting.statistics import Difference, MeanAndStd, mean_and_std, paired
from carlt.runs.reading import Run


class Column(NamedTuple):
    """A metric of the test split and its format in a table; hidden columns are in the CSV file only."""

    metric: str
    heading: str
    scale: float = 100
    digits: int = 1
    less_is_better: bool = False
    shown: bool = True


# In the order of the paper's tables; WR is the test accuracy of the worst class over that of the training split.
COLUMNS = (
    Column("test/many", "many"),
    Column("test/medium", "medium"),
    Column("test/few", "few"),
    Column("test/accuracy", "overall"),
    Column("test/worst_class", "worst class"),
    Column("test/worst_ratio", "WR", scale=1, digits=2),
    Column("test/worst_10pct", "worst 10 %"),
    Column("test/classes_at_zero", "classes at 0", scale=1, less_is_better=True),
    Column("test/ece", "ECE", less_is_better=True),
    Column("test/balanced_accuracy", "balanced", shown=False),
    Column("test/macro_f1", "macro F1", shown=False),
    Column("test/geometric_mean", "geometric mean", shown=False),
    Column("test/harmonic_mean", "harmonic mean", shown=False),
)


@dataclass(frozen=True)
class Row:
    """A configuration over its seeds: a column each, spread, whether it is the best, difference to the baseline."""

    label: str
    runs: int
    spreads: Sequence[MeanAndStd]
    best: Sequence[bool]
    differences: Sequence[Difference]
    """Empty in the baseline's own row."""


@dataclass(frozen=True)
class Table:
    """One data set at one choice of epoch. Values are in the units shown: % unless ``Column.scale`` is 1."""

    title: str
    epoch: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    baseline: str
    published: Sequence[Published]

    def shown(self) -> list[int]:
        """The places of the columns that a table shows: not those that are empty in every row."""
        published = {metric for row in self.published for metric in row.values}
        return [
            i
            for i, column in enumerate(self.columns)
            if column.shown and (any(row.spreads[i].n for row in self.rows) or column.metric in published)
        ]


def tables(data: DataSet, baseline: Group, published: Sequence[Published] = ()) -> list[Table]:
    """The table of the last epoch, and one of the best epoch for each way in which runs chose it."""
    epochs = sorted({run.result["epochs"] for run in data.runs})
    last = f"last epoch ({epochs[0]})" if len(epochs) == 1 else f"last epoch ({epochs[0]} to {epochs[-1]})"
    found = [_table(data.title, last, data.groups, baseline.label, published)]
    for way in dict.fromkeys(way for run in data.runs if (way := _chosen_by(run))):
        chosen = [_only(group, way) for group in data.groups]
        present = [group for group in chosen if group.runs]
        name = baseline.label if any(group.label == baseline.label for group in present) else present[0].label
        found.append(_table(data.title, f"best epoch, chosen by {way}", present, name, best_epoch=True))
    return found


def _table(
    title: str,
    epoch: str,
    groups: Sequence[Group],
    baseline: str,
    published: Sequence[Published] = (),
    best_epoch: bool = False,
) -> Table:
    values = [[_scaled(group, column, best_epoch) for column in COLUMNS] for group in groups]
    spreads = [[mean_and_std(list(cell.values())) for cell in row] for row in values]
    base = next(row for row, group in zip(values, groups, strict=True) if group.label == baseline)
    rows = [
        Row(
            group.label,
            len(group.runs),
            spreads[k],
            [_is_best(spreads, k, i) for i in range(len(COLUMNS))],
            [] if group.label == baseline else [paired(*pair) for pair in zip(values[k], base, strict=True)],
        )
        for k, group in enumerate(groups)
    ]
    return Table(title, epoch, COLUMNS, rows, baseline, published)


def _is_best(spreads: Sequence[Sequence[MeanAndStd]], k: int, i: int) -> bool:
    """Whether no other row shows a better mean in column i, and some a worse one."""
    sign, digits = -1 if COLUMNS[i].less_is_better else 1, COLUMNS[i].digits
    shown = [sign * round(row[i].mean, digits) for row in spreads if row[i].n]
    return len(set(shown)) > 1 and spreads[k][i].n > 0 and sign * round(spreads[k][i].mean, digits) == max(shown)


def _scaled(group: Group, column: Column, best_epoch: bool) -> dict[int, float]:
    return {seed: column.scale * value for seed, value in group.values(column.metric, best_epoch).items()}


def _only(group: Group, way: str) -> Group:
    return Group(group.label, group.config, {seed: run for seed, run in group.runs.items() if _chosen_by(run) == way})


def _chosen_by(run: Run) -> str | None:
    return (run.result.get("best") or {}).get("chosen_by")
