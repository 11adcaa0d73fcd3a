"""The tables of a report as numbers: one row per configuration, its difference to a baseline, published numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from carlt.reporting.groups import DataSet, Group, settings
from carlt.reporting.pairs import find_pairs, unpaired, verdicts
from carlt.reporting.published import Published
from carlt.reporting.statistics import Difference, MeanAndStd, mean_and_std, paired_difference
from carlt.runs.reading import Run


class Column(NamedTuple):
    """A metric of the test split and its format in a table. With ``shown=False`` it is in the CSV file only."""

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
    Column("train/worst_class", "worst class in training", shown=False),
    *(
        column
        for split in ("test", "train")
        for column in (  # of the hard margin confusion, see carlt.functional.bound
            Column(f"{split}/worst_margin_error", f"worst margin error, {split}", less_is_better=True, shown=False),
            Column(f"{split}/weighted_worst_error", f"weighted worst error, {split}", 1, 2, True, shown=False),
            Column(f"{split}/spectral_norm", f"spectral norm, {split}", 1, 2, True, shown=False),
        )
    ),
)


@dataclass(frozen=True)
class Row:
    """A configuration over its seeds: per column its mean and deviation, whether it is the best, and its difference to
    the baseline."""

    label: str
    runs: int
    estimates: Sequence[MeanAndStd]
    best: Sequence[bool]
    differences: Sequence[Difference]
    """Empty in the baseline's own row, and where ``not_compared`` has a reason."""
    not_compared: str = ""
    """How the epochs or the batch size differ from the baseline's, if that rules out a comparison."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """The options, and the values that differ from those of other rows."""


@dataclass(frozen=True)
class Table:
    """One data set at one choice of epoch. Values are in the units shown: % unless ``Column.scale`` is 1."""

    title: str
    epoch: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    baseline: str
    published: Sequence[Published]
    verdicts: Sequence[str] = ()
    """Sentences on each regularized configuration beside the same configuration without it; of the last epoch."""

    def shown(self) -> list[int]:
        """The indices of the columns that a table shows: those with a value in some row."""
        published = {metric for row in self.published for metric in row.values}
        return [
            i
            for i, column in enumerate(self.columns)
            if column.shown and (any(row.estimates[i].n for row in self.rows) or column.metric in published)
        ]


def summarize(
    data: DataSet, baseline: Group, published: Sequence[Published] = (), *, any_budget: bool = False
) -> list[Table]:
    """The table of the last epoch, and one of the best epoch per way in which runs chose it.

    Args:
        any_budget: also compare configurations whose epochs or batch size differ from the baseline's.
    """
    epochs = sorted({run.result["epochs"] for run in data.runs})
    last = f"last epoch ({epochs[0]})" if len(epochs) == 1 else f"last epoch ({epochs[0]} to {epochs[-1]})"
    table = _table(data.title, last, data.groups, baseline.label, published, any_budget=any_budget)
    found = [replace(table, verdicts=[*verdicts(find_pairs(data.groups)), *unpaired(data.groups)])]
    for way in dict.fromkeys(way for run in data.runs if (way := _chosen_by(run))):
        chosen = [_only(group, way) for group in data.groups]
        present = [group for group in chosen if group.runs]
        name = baseline.label if any(group.label == baseline.label for group in present) else present[0].label
        found.append(
            _table(data.title, f"best epoch, chosen by {way}", present, name, best_epoch=True, any_budget=any_budget)
        )
    return found


def _table(
    title: str,
    epoch: str,
    groups: Sequence[Group],
    baseline: str,
    published: Sequence[Published] = (),
    best_epoch: bool = False,
    any_budget: bool = False,
) -> Table:
    values = [[_scaled(group, column, best_epoch) for column in COLUMNS] for group in groups]
    estimates = [[mean_and_std(list(cell.values())) for cell in row] for row in values]
    base, base_group = next(found for found in zip(values, groups, strict=True) if found[1].label == baseline)
    reasons = ["" if any_budget else group.budget_difference(base_group) for group in groups]
    names = settings(groups)
    rows = [
        Row(
            group.label,
            len(group.runs),
            estimates[k],
            [_is_best(estimates, k, i) for i in range(len(COLUMNS))],
            []
            if group.label == baseline or reasons[k]
            else [paired_difference(*pair) for pair in zip(values[k], base, strict=True)],
            reasons[k],
            {name: group.settings[name] for name in names if name in group.settings},
        )
        for k, group in enumerate(groups)
    ]
    return Table(title, epoch, COLUMNS, rows, baseline, published)


def _is_best(estimates: Sequence[Sequence[MeanAndStd]], k: int, i: int) -> bool:
    """Whether no other row shows a better mean in column i, and some a worse one."""
    sign, digits = -1 if COLUMNS[i].less_is_better else 1, COLUMNS[i].digits
    shown = [sign * round(row[i].mean, digits) for row in estimates if row[i].n]
    return len(set(shown)) > 1 and estimates[k][i].n > 0 and sign * round(estimates[k][i].mean, digits) == max(shown)


def _scaled(group: Group, column: Column, best_epoch: bool) -> dict[int, float]:
    return {seed: column.scale * value for seed, value in group.values(column.metric, best_epoch).items()}


def _only(group: Group, way: str) -> Group:
    return Group(group.label, group.config, {seed: run for seed, run in group.runs.items() if _chosen_by(run) == way})


def _chosen_by(run: Run) -> str | None:
    return (run.result.get("best") or {}).get("chosen_by")
