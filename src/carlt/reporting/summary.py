"""Several runs as one table: runs that differ by their seed alone are one row, compared with the first, by seed."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml

from carlt import paths
from carlt.errors import CarltError
from carlt.reporting.record import read_result

COLUMNS = {
    "test/accuracy": "overall",
    "test/many": "many",
    "test/medium": "medium",
    "test/few": "few",
    "test/worst_class": "worst class",
    "test/worst_10pct": "worst 10 %",
    "test/classes_at_zero": "classes at 0",
}
# What changes no number of a run: neither a difference nor part of a label.
IGNORED = ("seed", "resume", "launcher", "logger", "callbacks", "data.root", "data.num_workers")
PLAIN_UNITS = ("test/classes_at_zero",)


@dataclass(frozen=True)
class Row:
    """Runs of one configuration: what sets it apart, and the metrics and the folder of each seed."""

    label: str
    runs: Mapping[int, Mapping[str, Any]]
    folders: Sequence[Path]

    def values(self, metric: str) -> list[float]:
        return [float("nan" if run[metric] is None else run[metric]) for run in self.runs.values()]

    def paired(self, other: "Row", metric: str) -> list[float]:
        """This row minus ``other``, for each seed that both have."""
        seeds = sorted(self.runs.keys() & other.runs.keys())
        pairs = [(self.runs[seed][metric], other.runs[seed][metric]) for seed in seeds]
        return [a - b for a, b in pairs if a is not None and b is not None]


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """Finished run folders among and below ``folders``, sorted; CarltError if there is none."""
    found = sorted({path.parent for folder in folders for path in folder.rglob(paths.RESULT)}, key=_natural)
    if not found:
        raise CarltError(f"no finished run (no {paths.RESULT}) in {', '.join(map(str, folders))}")
    return found


def rows(folders: Sequence[Path]) -> list[Row]:
    """Runs grouped by configuration, in the order found; a label names the values that differ between the rows."""
    groups: dict[frozenset[tuple[str, str]], list[tuple[Path, dict[str, str], dict[str, Any]]]] = {}
    for folder in find_runs(folders):
        config, result = _flat(yaml.safe_load((folder / paths.CONFIG).read_text())), read_result(folder)
        config = {name: value for name, value in config.items() if not _ignored(name)}
        group = groups.setdefault(frozenset(config.items()), [])
        if any(result["seed"] == other["seed"] for *_, other in group):
            raise CarltError(f"{folder} repeats seed {result['seed']} of another run with the same configuration")
        group.append((folder, config, result))
    configs = [group[0][1] for group in groups.values()]
    differing = [name for name in _names(configs) if len({config.get(name) for config in configs}) > 1]
    labels = [_label(config, [name for name in differing if _tells(name, config, configs)]) for config in configs]
    return [
        Row(label, {result["seed"]: result["metrics"] for *_, result in group}, [folder for folder, *_ in group])
        for label, group in zip(labels, groups.values(), strict=True)
    ]


def markdown(table: Sequence[Row]) -> str:
    """Mean ± standard deviation in % over the seeds; then each row minus the first, paired by seed."""
    header = ["configuration", "n", *COLUMNS.values()]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in table:
        cells = [_spread(row.values(name), name) for name in COLUMNS]
        lines.append("| " + " | ".join([row.label, str(len(row.runs)), *cells]) + " |")
    for row in table[1:]:
        cells = [_difference(row.paired(table[0], name), name) for name in COLUMNS]
        n = len(row.paired(table[0], "test/accuracy"))
        lines.append("| " + " | ".join([f"{row.label} minus {table[0].label}", str(n), *cells]) + " |")
    return "\n".join(lines) + "\n"


def _natural(path: Path) -> list[tuple[int, str]]:
    """A key that puts job 2 of a sweep before job 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def _spread(values: list[float], metric: str) -> str:
    if any(math.isnan(value) for value in values):
        return "-"
    scale = 1 if metric in PLAIN_UNITS else 100
    deviation = f" ± {scale * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{scale * mean(values):.1f}{deviation}"


def _difference(values: list[float], metric: str) -> str:
    if not values:
        return "-"
    scale = 1 if metric in PLAIN_UNITS else 100
    half = f" ± {scale * _t95(len(values)) * stdev(values) / math.sqrt(len(values)):.1f}" if len(values) > 1 else ""
    return f"{scale * mean(values):+.1f}{half}"


def _t95(n: int) -> float:
    """Student's t for a two-sided 95 % interval of a mean of ``n`` values."""
    from scipy.stats import t

    return float(t.ppf(0.975, n - 1))


def _flat(node: Any, prefix: str = "") -> dict[str, str]:
    if not isinstance(node, dict):
        return {prefix[:-1]: str(node)}
    return {name: value for key, item in node.items() for name, value in _flat(item, f"{prefix}{key}.").items()}


def _names(configs: Sequence[Mapping[str, str]]) -> list[str]:
    return list(dict.fromkeys(name for config in configs for name in config))


def _ignored(name: str) -> bool:
    name = name.removeprefix("choices.")
    return any(name == ignored or name.startswith(f"{ignored}.") for ignored in IGNORED)


def _tells(name: str, config: Mapping[str, str], configs: Sequence[Mapping[str, str]]) -> bool:
    """Whether a value sets ``config`` apart from others that chose the same option of its group."""
    group = name.split(".")[0]
    if group == "recipe":  # other groups repeat what it says
        return False
    choice = f"choices.{group}"
    same = [other for other in configs if other.get(choice) == config.get(choice)]
    return len({other.get(name) for other in same}) > 1 or group == "choices"


def _label(config: Mapping[str, str], differing: Sequence[str]) -> str:
    known = [name for name in differing if name in config]
    return ", ".join(f"{name.removeprefix('choices.')}={config[name]}" for name in known) or "all runs"
